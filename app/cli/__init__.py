"""The `treadle` command: one function per sub-command, and the modules that carry them out.

- `main`: the sub-commands and their options; starts each kind of process.
- `__main__`: lets `python -m app.cli` run the command without an installation.
- `doctor`: the checks of `treadle doctor`.
- `key`: `treadle key`, which creates, lists and revokes API keys.
- `check_sign_in`: the check of sign-in for `doctor`.
- `rotate_key`: checks and rotation of the keys of secrets.
- `backup`: `treadle backup` and `treadle restore`.
- `operations`: `treadle runs|workflows|triggers|workers|queue|logs`, over the public API.
- `project_files`: `treadle export` and `treadle import`.
- `new_node`: the package that `treadle new-node` writes.
- `node_docs`: generates docs/nodes.md.
- `command_docs`: generates docs/commands.md.
- `setting_docs`: generates docs/settings.md.
- `storage`: the check of `treadle doctor` for what projects store.
- `schema_changes`: lists the breaking changes between two GraphQL schemas, before a release.
- `watch`: `treadle run`, which starts a run and follows it with `treadle.client`.
- `client`: `treadle.client` with the errors of the command line.
- `questions`: renders what a waiting run asks a person.
- `arguments`: reads the spec and the inputs of `treadle run`.
"""
