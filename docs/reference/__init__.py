"""The pages of the reference that are generated from the code into `docs/` (`make docs`).

- `errors`: the codes of errors, with cause and remedy
- `metrics`: the metrics of servers and workers
"""
