"""The benchmark: compares Treadle, as real processes, with bare LangGraph on the same machine.

Run it with `python -m bench`; `--help` lists the parts.

Parts:

- `throughput`: runs per second and CPU per node (rows 1, 2, 3, 13 and 18).
- `latency`: latency of one run, of its events and of a cancel (rows 4 to 7 and 14).
- `compiling`: compile time, and CPU per node by graph size (rows 8 and 9).
- `shapes`: a mixed graph, a long loop and large maps (rows 2b, 9b and 17).
- `subscriptions`: delivery under load and to many subscribers (rows 6 and 10).
- `lists`: the cost of lists (rows 11 and 12).
- `streaming`: text of models that is streamed to many subscribers (row 16).
- `startup`: the time until `treadle up` is ready (row 15).
- `triggers`: schedules that are due in the same minute (row 20).
- `statistics`: `stats` of a year with 1,000,000 runs, and what the statistics cost a run (row 21).
- `limits`: what each part of a deployment can do by itself (row 19).

Tools:

- `__main__`: runs all parts, and prints the table.
- `baselines`: bare LangGraph in memory (A), and with its Postgres saver (B).
- `from_memory`: Strawberry that answers from memory (C).
- `processes`: starts the deployment that is measured.
- `client`: a lean HTTP client.
- `graphs`: the measured graphs.
- `measures`: rows of the table, and percentiles.
"""
