"""`treadle export` and `treadle import`: workflows, triggers, endpoints and alert rules as files for Git.

- `commands`: the commands and their options.
- `portable`: workflows and triggers with names instead of ids, and their files.
- `objects`: the endpoints and the alert rules of a project as one file each.
- `remote`: reads and changes a project over the public API.
- `plan`: the difference between files and a project, and its text.
- `transfer`: exports a project, and carries a plan out.
"""
