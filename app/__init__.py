"""The processes of Treadle and the `treadle` command, composed from the other packages.

Packages:

- `cli`: the `treadle` command.
- `supervisor`: `treadle up`, which starts all processes and restarts them.
- `server`: the HTTP and WebSocket server.
- `embedded`: Postgres and Redis as child processes.
- `chaos`: `treadle chaos`, which kills processes under load and checks the guarantees.

Modules:

- `settings`: all settings, read from the environment.
- `retention_settings`: the settings of retention, which `settings` inherits.
- `sign_in_settings`: the settings of sign-in, which `settings` inherits.
- `setting_errors`: the lines of a process that does not start because of its settings.
- `setting_types`: the types of settings whose values are checked.
- `logging`: the log configuration.
- `preflight`: the checks of Postgres and Redis before a start.
- `tracing`: turns on traces of OpenTelemetry.
- `errors`: errors that stop a process.
- `child_process`: child processes that end with their parent.
- `http_client`: an HTTP client for local addresses.
- `terminal_text`: escapes control characters in texts of users.
"""
