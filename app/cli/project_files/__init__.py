"""`treadle export` and `treadle import`: the workflows, triggers and endpoints of a project as files for Git.

- `commands`: the commands and their options.
- `portable`: workflows and triggers with names instead of ids, and their files.
- `endpoints`: the endpoints of a project as one file.
- `remote`: reads and changes a project over the public API.
- `plan`: the difference between files and a project, and its text.
- `transfer`: exports a project, and carries a plan out.
"""
