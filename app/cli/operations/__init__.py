"""Commands for operators over the public API: lists, why a run waits, and the logs of a run.

- `commands`: the commands and their options.
- `connection`: the server that a command talks to, and its errors.
- `objects`: what each command reads and shows.
- `bulk`: `treadle runs cancel|retry|delete`, which change many runs.
- `logs`: `treadle logs`, which prints and follows the log of a run.
- `output`: tables for people, and JSON for programs.
"""
