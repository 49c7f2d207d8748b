"""`treadle up`: starts stores, server and workers on one machine, restarts and stops them.

- `up`: prepares the stores and prints what a person needs to know.
- `supervisor`: starts server and workers, and stops everything on a signal.
- `restarts`: restarts a process or a store that dies.
- `start_gate`: makes processes that were started early wait for the stores.
- `health`: waits until the server reports that it is healthy.
"""
