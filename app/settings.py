"""Every setting, from the environment with the prefix TREADLE_ (or a file `.env`). A leaf: imports nothing of ours."""

import os
import sys
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "TREADLE_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SECRET = ("database_url", "redis_url", "models", "secret_key")
"""They may hold a password or a key, so no message repeats them."""


class Settings(BaseSettings):
    """One process's settings. Times are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False
    )

    database_url: str | None = Field(None, description="postgresql://…; unset: an embedded Postgres is started")
    redis_url: str | None = Field(None, description="redis://… or unix://…; unset: an embedded Redis is started")
    data_dir: Path = Field(Path(".treadle"), description="where embedded servers keep their data")
    host: str = Field("127.0.0.1", description="the address the server binds; without sign-in, loopback alone")
    port: int = Field(8000, ge=0, le=65535, description="0: any free one")
    workers: int = Field(1, ge=0, le=64, description="worker processes that `treadle up` starts")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    queue_name: str = Field("treadle", min_length=1)
    max_jobs: int = Field(50, ge=1, le=10_000, description="runs one worker drives at once")
    lease_ttl_s: float = Field(15, gt=0, description="after which a worker that says nothing loses its runs")
    heartbeat_s: float = Field(5, gt=0, description="how often a worker says that it is there")
    drain_s: float = Field(30, ge=0, description="how long a stopping worker lets running nodes finish")
    max_attempts: int = Field(
        5, ge=1, description="workers lost in a row, with nothing finished between, that FAIL a run"
    )
    project_limit: int | None = Field(None, ge=1, description="runs of one project at once, on all workers; unset: any")
    pausing_s: float = Field(60, ge=0, description="how long a pause lets running nodes finish; then they are cut off")
    cancelling_s: float = Field(10, gt=0, description="after which a worker whose node ignores a cancel is killed")
    rest_days: float = Field(30, gt=0, description="how long a run may be PAUSED or WAITING before it is cancelled")
    retention_history_days: float | None = Field(
        30,
        gt=0,
        description="events, checkpoints and node data of runs that ended longer ago are deleted; unset: never",
    )
    retention_runs_days: float | None = Field(None, gt=0, description="so are the runs themselves; unset: never")
    presence: Literal["auto", "off"] = Field(
        "auto", description="advisory locks, by which a dead worker is noticed at once"
    )
    sandbox_processes: int = Field(min(os.cpu_count() or 1, 4), ge=1, le=64, description="code nodes at once")
    sandbox_memory_mb: int = Field(128, ge=1, description="what the code of one node may allocate")

    secret_key: SecretStr | None = Field(
        None,
        description="keys for secrets in base64, the first one current, separated by commas; unset: a file in data_dir",
    )
    catalog_file: Path | None = Field(
        None, description="models, MCP servers and databases; unset: treadle.toml in this folder, if it is there"
    )
    models: str = Field("", description="more models, as a JSON list of what treadle.toml has under [[models]]")
    http_allow: str = Field(
        "",
        description="what nodes may call beyond the public internet: names and networks, such as 10.1.0.0/16,*.svc.local",
    )

    @property
    def deadlines(self) -> tuple[timedelta, timedelta, timedelta]:
        """The values of `persistence.db.deadlines.Deadlines`, in its order: pausing, cancelling, idle."""
        return timedelta(seconds=self.pausing_s), timedelta(seconds=self.cancelling_s), timedelta(days=self.rest_days)

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: str | None) -> str | None:
        if url is not None and url.split("://")[0].split("+")[0] not in ("postgresql", "postgres"):
            raise ValueError("must be a postgresql:// address")
        return url

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: str | None) -> str | None:
        if url is not None and url.split("://")[0] not in ("redis", "rediss", "unix"):
            raise ValueError("must be a redis://, rediss:// or unix:// address")
        return url

    @field_validator("host")
    @classmethod
    def _is_loopback(cls, host: str) -> str:
        if host not in LOOPBACK:
            raise ValueError("must be a loopback address, as there is no sign-in yet")
        return host

    @field_validator("http_allow")
    @classmethod
    def _are_networks(cls, allowed: str) -> str:
        for part in allowed.split(","):
            if "/" in part:
                ip_network(part.strip(), strict=False)
        return allowed

    @field_validator("data_dir", "catalog_file")
    @classmethod
    def _home_is_meant(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @model_validator(mode="after")
    def _a_lost_beat_is_survived(self) -> "Settings":
        if self.heartbeat_s * 2 > self.lease_ttl_s:
            raise ValueError("TREADLE_HEARTBEAT_S must be at most half of TREADLE_LEASE_TTL_S: a beat may get lost")
        return self


def load_settings(**given: Any) -> Settings:
    """The settings of this process; `given` go before the environment. Bad ones end it with a line each."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as wrong:
        sys.exit("\n".join(_told(error["loc"], error.get("input"), error["msg"]) for error in wrong.errors()))


def unknown() -> list[str]:
    """Variables with our prefix that are no setting: most likely misspelt."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)


def _told(place: tuple[int | str, ...], value: object, message: str) -> str:
    said = message.removeprefix("Value error, ")
    if not place:
        return f"treadle: {said}"
    name = str(place[0])
    shown = "" if name in _SECRET else f"={value!r}"
    return f"treadle: {PREFIX}{name.upper()}{shown}: {said[0].lower()}{said[1:]}"
