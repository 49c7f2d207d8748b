"""The chaos suite (`treadle chaos`): kills a separate Treadle under load and checks guarantees.

The load:

- `workflows`: the workflows of the load, each with its expected result.
- `nodes`: the node types of these workflows, which record every execution.
- `load`: starts runs at a steady rate, and controls them as clients do.
- `client`: the GraphQL client of the load.
- `subscribers`: WebSocket clients that follow the runs.
- `events`: triggers of each kind with their sources, and an endpoint that receives messages.

The faults:

- `faults`: the faults, and the order in which they are injected.
- `processes`: the server and worker processes that are killed and restarted.
- `wrong_clock`: makes the clock of one worker wrong.

The checks:

- `execution_log`: records every execution of a node in files.
- `lease_log`: records which worker held which run, and which items of maps are durable.
- `run_history`: reads all runs from the database.
- `audit`: compares all records, and reports violated guarantees.
- `report`: prints the result as a table.
- `suite`: runs everything.
"""
