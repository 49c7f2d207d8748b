"""Every setting, from the environment with the prefix TREADLE_ (or a `.env` file). A leaf: it imports nothing of ours."""

import os
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One process's settings. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="TREADLE_", env_file=".env", extra="ignore", frozen=True)

    database_url: str | None = Field(None, description="postgresql://…; unset: an embedded Postgres is started")
    redis_url: str | None = Field(None, description="redis://… or unix://…; unset: an embedded Redis is started")
    data_dir: Path = Field(Path(".treadle"), description="where embedded servers keep their data")
    host: str = Field("127.0.0.1", description="the address the server binds; without sign-in, loopback alone")
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=0, le=64, description="worker processes that `treadle up` starts")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    queue_name: str = Field("treadle", min_length=1)
    max_jobs: int = Field(50, ge=1, le=10_000, description="runs one worker drives at once")
    lease_ttl_s: float = Field(15, gt=0)
    heartbeat_s: float = Field(5, gt=0)
    drain_s: float = Field(30, ge=0, description="how long a stopping worker lets running nodes finish")
    max_attempts: int = Field(5, ge=1, description="take-ups after which a run that crashes its workers is FAILED")
    sandbox_processes: int = Field(min(os.cpu_count() or 1, 4), ge=1, le=64)
    sandbox_memory_mb: int = Field(128, ge=1)


def load_settings(**given: object) -> Settings:
    """The settings of this process; `given` go before the environment. A bad one ends the process with one clear line."""
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as wrong:
        first = wrong.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        sys.exit(f"treadle: TREADLE_{name}={first.get('input')!r}: {first['msg'].lower()}")
    if settings.heartbeat_s * 2 > settings.lease_ttl_s:
        sys.exit(
            "treadle: TREADLE_HEARTBEAT_S must be at most half of TREADLE_LEASE_TTL_S, or one lost beat loses the runs"
        )
    if settings.host not in ("127.0.0.1", "localhost", "::1"):
        sys.exit(
            f"treadle: TREADLE_HOST={settings.host!r}: there is no sign-in yet, so only a loopback address can be bound"
        )
    return settings
