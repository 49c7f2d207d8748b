"""All settings of a Treadle process, read from `TREADLE_*` environment variables or a file `.env`.

Every process of a deployment reads its settings once, at its start. This module imports no other
package of the project, so that any package may import it.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import DotEnvSettingsSource, SettingsConfigDict

from app.retention_settings import RetentionSettings
from app.setting_errors import PREFIX as PREFIX
from app.setting_errors import error_line, json_line
from app.setting_errors import ownership_problem as ownership_problem
from app.setting_types import (
    NEVER,
    DatabaseUrl,
    HostNames,
    NamesAndNetworks,
    Networks,
    Origins,
    RedisUrl,
    UserPath,
    items,
)
from app.sign_in_settings import SignInSettings

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(RetentionSettings, SignInSettings):
    """The settings of one process.

    Names that end in `_s` are in seconds, `_days` in days, `_mb` in MiB. Each description says what
    the setting does, and then when to change it. docs/settings.md is made from them.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False
    )

    database_url: DatabaseUrl | None = Field(
        None,
        description="Postgres address, `postgresql://user:password@host:port/database`. Default: none; then "
        "`treadle up` starts an embedded Postgres, and other commands refuse to start. Set it to use a Postgres of "
        "your own.",
    )
    redis_url: RedisUrl | None = Field(
        None,
        description="Redis address, `redis://`, `rediss://` or `unix://`. Default: none; then `treadle up` starts "
        "an embedded Redis, and other commands refuse to start. Set it to use a Redis of your own.",
    )
    data_dir: UserPath = Field(
        Path(".treadle"),
        description="Folder for the data and logs of embedded stores and for the key file of secrets. Set it if the "
        "working folder is not writable or is inside a folder that other users cannot enter.",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address that the server binds, and a worker for its metrics. "
        "Without sign-in (`TREADLE_JWT_SECRET`, `TREADLE_JWT_JWKS_URL`, `TREADLE_OIDC_ISSUER`) "
        "only loopback addresses are allowed. Set it to `0.0.0.0` if clients or a proxy on other hosts connect.",
    )
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        description="TCP port of the server; 0 selects a free port. Change it if another program uses the port.",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        description="The address at which clients reach the server, such as `https://treadle.example.com`; addresses of "
        "webhooks begin with it. Set it if the server is behind a proxy. Default: `http://`, the host and the port.",
    )
    allowed_origins: Origins = Field(
        "",
        description="Origins whose pages may use the API in addition to the server's own, separated by commas, such as "
        "`http://localhost:5173`: they get CORS headers and may open WebSockets. Default: none. Set it for each page "
        "of another origin, such as a builder under development.",
    )
    allowed_hosts: HostNames = Field(
        "",
        description="Names by which clients or proxies reach the server, separated by commas, such as "
        "`treadle.example.com` or `*.example.com`: values of the header `Host`, without a port. Local names are "
        "always allowed. Default: none; with sign-in, all names. Set it if clients reach the server by a name.",
    )
    trusted_proxies: Networks = Field(
        "127.0.0.1",
        description="Addresses and networks of proxies, separated by commas, such as `10.0.0.0/8`. The address of a "
        "client is the one in their `X-Forwarded-For`. Set it if a proxy runs on another host.",
    )
    socket_init_s: float = Field(
        10,
        gt=0,
        description="Time in which the client of a WebSocket has to send connection_init. Increase it for clients that "
        "fetch a token only after they have connected.",
    )
    request_s: float = Field(
        30,
        gt=0,
        description="Time in which the headers of a request have to arrive, and then again its body. Increase it for "
        "clients with slow connections.",
    )
    connections_per_caller: int = Field(
        1000,
        ge=1,
        description="Connections of one caller that a server holds open: WebSockets, and HTTP requests in progress. "
        "More are refused with HTTP 429, or close code 1013. Increase it for a caller with many live views.",
    )
    connections_per_address: int = Field(
        1000,
        ge=1,
        description="The same for one IP address. A proxy must send `X-Forwarded-For`, or all of its clients have its "
        "address. Increase it if many callers share an address.",
    )
    connections: int = Field(
        5000,
        ge=1,
        description="Connections that a server holds open in total; more are refused with HTTP 503. Reduce it if a "
        "server runs out of memory: 1,000 subscriptions need about 40 MB.",
    )
    subscriptions_per_caller: int = Field(
        1000,
        ge=1,
        description="Subscriptions of one caller that a server has active. More are refused with code LIMIT. Increase it "
        "for a caller with many live views.",
    )
    rate_per_caller: int | None = Field(
        None,
        ge=60,
        description="Points that the operations of one caller may cost per minute, on all servers together; see "
        "docs/api.md. More are refused with HTTP 429 and `Retry-After`. Default: no limit. Set it if callers share an "
        "installation and one must not slow the others.",
    )
    rate_per_address: int | None = Field(
        None,
        ge=60,
        description="The same for one IP address. Default: no limit. Set it if the server can be reached from the "
        "internet.",
    )
    operation_s: float = Field(
        30,
        gt=0,
        description="Time that a query may take. A mutation may take 10 minutes more, as it may wait for a run. "
        "Increase it for large queries on a slow database.",
    )
    introspection: bool = Field(
        True,
        description="Whether queries may read the schema. Switch it off if strangers can reach the API; GraphiQL then "
        "completes nothing.",
    )
    studio: bool = Field(
        True,
        description="Whether a browser gets the studio at `/`, which builds, runs and shows workflows by the API. "
        "Switch it off if people have a user interface of their own.",
    )
    graphiql: bool = Field(
        True, description="Whether a browser that opens the API gets GraphiQL. Switch it off if strangers can reach it."
    )
    documents: Literal["off", "permissive", "strict"] = Field(
        "off",
        description="Trusted documents, which clients name by `documentId` or by the hash of automatic persisted "
        "queries. `permissive`: clients may also send and register other texts. `strict`: only the documents of the "
        "file are executed. Set `strict` if all clients are your own.",
    )
    documents_file: UserPath | None = Field(
        None,
        description="File of trusted documents: an object of texts by id, such as `persisted-documents.json` of "
        "graphql-codegen. Default: none. Servers read it at their start. Set it together with `TREADLE_DOCUMENTS`.",
    )
    workers: int = Field(
        1,
        ge=0,
        le=64,
        description="Worker processes that `treadle up` starts. Increase it if workers use a whole core; 0 starts none.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="Lowest level of log lines that are written: debug, info, warning or error. Set `debug` to look for "
        "a fault.",
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="Format of log lines on stderr. Set `json`, one object per line, for a log collector."
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="TCP port at which a worker serves its metrics, at the path /metrics and the address `TREADLE_HOST`. "
        "`treadle up` gives it to worker 1, and the ports after it to the others. A server serves its metrics at its own "
        "port. Set it to scrape the workers with Prometheus.",
    )
    queue_name: str = Field(
        "treadle",
        min_length=1,
        description="Name of the arq queue in Redis. Set different names for deployments that share one Redis.",
    )
    max_jobs: int = Field(
        50,
        ge=1,
        le=10_000,
        description="Runs that one worker executes at the same time; one project leaves a tenth of them to the others. "
        "Reduce it if workers run out of memory.",
    )
    lease_ttl_s: float = Field(
        15,
        gt=0,
        description="Time after its last renewal at which a worker's lease expires and other workers take its runs. "
        "Increase it if healthy workers lose their leases.",
    )
    heartbeat_s: float = Field(
        5,
        gt=0,
        description="Lease renewal interval; at most half of `TREADLE_LEASE_TTL_S`. Reduce it together with that.",
    )
    drain_s: float = Field(
        30,
        ge=0,
        description="Time that a stopping worker waits for running nodes before it cancels them and releases its runs. "
        "Increase it if nodes take longer and must not run twice; the host's own limit must be above it.",
    )
    max_attempts: int = Field(
        5,
        ge=1,
        description="Workers that a run may lose in a row without finishing a node in between. Then the run FAILS with "
        "code CRASH_LOOP. Increase it if workers are often killed for other reasons, such as preemption.",
    )
    project_limit: Annotated[int | None, NEVER] = Field(
        None,
        ge=1,
        description="Runs of one project that all workers together execute at the same time; further runs stay QUEUED. "
        "Default: never limited. Set it if one project must not use all workers.",
    )
    project_queue_limit: int = Field(
        100_000,
        ge=1,
        description="Runs of one project that may be QUEUED, and likewise PENDING. Further ones are refused with code LIMIT "
        "until some have "
        "started. Each server counts twice a second, so several servers may exceed it by what they accept in that "
        "time. Runs that were accepted, and child runs, are never refused. Increase it for large imports.",
    )
    project_storage_mb: Annotated[int | None, NEVER] = Field(
        100_000,
        ge=1,
        description="Megabytes that the runs of one project may store: inputs, outputs, events and checkpoints, before "
        "compression by Postgres. Further runs are refused with code LIMIT until runs are deleted, or expire. Runs that "
        "were accepted, and child runs, continue up to `TREADLE_RUN_STORAGE_MB`. "
        "`never`: no limit. Reduce it if the disk is small.",
    )
    run_storage_mb: Annotated[int | None, NEVER] = Field(
        1_000,
        ge=1,
        description="Megabytes that one run may store. Then it FAILS with code STORAGE_LIMIT, within "
        "`TREADLE_HEARTBEAT_S`. `never`: no limit. Increase it for runs with many large outputs.",
    )
    pausing_s: float = Field(
        60,
        ge=0,
        description="Time that a pause waits for running nodes. Then they are cancelled, and they run again on resume. "
        "Increase it if nodes take longer and are expensive to repeat.",
    )
    cancelling_s: float = Field(
        10,
        gt=0,
        description="Time after a cancel request at which a worker is killed if a node still ignores the request. "
        "The worker's other runs continue on other workers. Increase it if node types of your own need longer to stop.",
    )
    rest_days: Annotated[float | None, NEVER] = Field(
        30,
        gt=0,
        description="Time that a run may be PAUSED or WAITING before it is CANCELLED with the error DEADLINE, counted from "
        "its first open timer if it has one (`deadlineAt` in the API). It applies to runs that pause or wait from now "
        "on. `never`: no deadline. Increase it if people answer later.",
    )
    trigger_max_failures: int = Field(
        20,
        ge=1,
        description="Failures in a row after which a trigger is disabled. Enabling it clears them. Increase it if a "
        "workflow is often without a published version for longer.",
    )
    endpoint_max_failing_days: float = Field(
        5,
        gt=0,
        description="Days for which all messages to an endpoint have failed, after which it is disabled. Enabling it "
        "begins anew. Increase it if receivers may be away for longer.",
    )
    analytics_events: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="About how many analytics events the Redis stream of each project keeps; 0: no stream. Increase it if "
        "a reader of the streams may be away for longer.",
    )
    presence: Literal["auto", "off"] = Field(
        "auto",
        description="`auto`: each worker holds an advisory lock in Postgres, so that its death is detected within a "
        "second. `off`: its death is detected when its lease expires. Set `off` behind a connection pooler that does "
        "not support session locks.",
    )
    sandbox_processes: int = Field(
        max(2, min(os.cpu_count() or 1, 4)),
        ge=1,
        le=64,
        description="Sandbox processes of one worker, that is, code nodes that it executes at the same time. One project "
        "uses all but one of them at most. Default: the number of cores, at least 2 and at most 4. Increase it if code "
        "nodes wait for each other.",
    )
    sandbox_max_timeout_s: float = Field(
        300,
        gt=0,
        le=3600,
        description="Time after which the code of a node is stopped, also if its `timeoutS` is higher; validation warns "
        "of such a node. Increase it if code may use a sandbox for longer.",
    )
    sandbox_memory_mb: int = Field(
        128,
        ge=1,
        description="Memory that the code of one node may allocate. Increase it if code fails for lack of memory.",
    )

    secret_key: SecretStr | None = Field(
        None,
        description="Keys for encrypting secrets: 32 bytes in base64 each, separated by commas, the current key first. "
        "Default: the file `secret.key` in `TREADLE_DATA_DIR`, created at the first start. Set it if servers "
        "and workers run on several hosts.",
    )
    catalog_file: UserPath | None = Field(
        None,
        description="File that lists models, MCP servers and databases (models.md, tools.md). Default: `treadle.toml` "
        "in the working folder, if it exists. Set it for services, whose working folder is not obvious.",
    )
    models: str = Field(
        "",
        description="Further models: a JSON list of objects with the fields of `[[models]]` in `treadle.toml`. Set it "
        "where a file is inconvenient, as in a container.",
    )
    http_allow: NamesAndNetworks = Field(
        "",
        description="Hosts outside the public internet that nodes may call: host names and networks, separated by "
        "commas, such as `10.1.0.0/16,*.svc.local`. Default: none. Set it for services of your own network.",
    )

    @property
    def public_address(self) -> str:
        """The address at which clients reach the server, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/")

    @property
    def origins(self) -> list[str]:
        """The items of `allowed_origins`, as browsers send them."""
        return [origin.lower().removesuffix("/") for origin in items(self.allowed_origins)]

    @property
    def hosts(self) -> list[str]:
        """The items of `allowed_hosts`."""
        return items(self.allowed_hosts)

    @property
    def deadlines(self) -> tuple[timedelta, timedelta, timedelta | None, timedelta]:
        """Fields of `persistence.db.deadlines.Deadlines`, in order: pausing, cancelling, idle, kept_events."""
        idle = None if self.rest_days is None else timedelta(days=self.rest_days)
        kept_events = timedelta(days=self.kept_events_days)
        return timedelta(seconds=self.pausing_s), timedelta(seconds=self.cancelling_s), idle, kept_events

    @model_validator(mode="after")
    def _check_host(self) -> "Settings":
        if self.host not in LOOPBACK and not self.has_sign_in:
            raise ValueError(
                f"TREADLE_HOST={self.host!r}: must be a loopback address, because sign-in is not configured "
                "(TREADLE_JWT_SECRET, TREADLE_JWT_JWKS_URL or TREADLE_OIDC_ISSUER)"
            )
        return self

    @model_validator(mode="after")
    def _check_documents(self) -> "Settings":
        if self.documents == "strict" and self.documents_file is None:
            raise ValueError(
                "TREADLE_DOCUMENTS is strict, but TREADLE_DOCUMENTS_FILE is not set: no operation could be executed"
            )
        return self

    @model_validator(mode="after")
    def _allow_one_lost_heartbeat(self) -> "Settings":
        if self.heartbeat_s * 2 > self.lease_ttl_s:
            raise ValueError(
                "TREADLE_HEARTBEAT_S must be at most half of TREADLE_LEASE_TTL_S: one heartbeat may be lost"
            )
        return self


def load_settings(**overrides: Any) -> Settings:
    """Load the settings of this process, or exit with one line per invalid setting.

    Args:
        overrides: Values by field name that replace the environment's; None means not set.
    """
    env_file = Path(str(Settings.model_config["env_file"]))
    if (problem := ownership_problem(env_file)) is not None:
        line = f"treadle: {env_file.absolute()} {problem}"
        sys.exit(json_line(line) if _has_json_logs() else line)
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as invalid:
        lines = [error_line(error["loc"], error.get("input"), error["msg"]) for error in invalid.errors()]
        sys.exit("\n".join(map(json_line, lines) if _has_json_logs() else lines))


def unknown_variables() -> list[str]:
    """Return the `TREADLE_` names of the environment and of `.env` that are no setting."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    names = {name.upper() for name in (*os.environ, *DotEnvSettingsSource(Settings).env_vars)}
    return sorted(name for name in names if name.startswith(PREFIX) and name not in known)


def _has_json_logs() -> bool:
    """Whether the environment asks for JSON logs; for settings that are not valid as a whole."""
    variables = {**DotEnvSettingsSource(Settings).env_vars, **os.environ}
    return {name.upper(): value for name, value in variables.items()}.get(f"{PREFIX}LOG_FORMAT") == "json"
