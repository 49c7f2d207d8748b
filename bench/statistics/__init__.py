"""The statistics: reading and writing them (row 21).

- `reading`: `stats` of a year with 1,000,000 runs.
- `writing`: what the statistics cost each run.
"""
