"""The settings of retention: how long data that nobody needs any more is kept.

`Settings` inherits them; nothing else uses this module.
"""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from app.setting_types import NEVER


class RetentionSettings(BaseSettings):
    """The times after which workers delete data, in days."""

    retention_history_days: Annotated[float | None, NEVER] = Field(
        30,
        gt=0,
        description="Time after the end of a run at which its events, checkpoints and node data are deleted. The run and "
        "its output stay, with `historyExpiredAt` in the API. Runs of one time are deleted together, so it may be "
        "a tenth later. Events of triggers are deleted at the same age. `never` keeps them. Reduce it if the database "
        "grows too large.",
    )
    retention_runs_days: Annotated[float | None, NEVER] = Field(
        None,
        gt=0,
        description="Time after its end at which a run itself is deleted. Set it if runs must not be kept, or if lists "
        "grow too large.",
    )
    retention_threads_days: Annotated[float | None, NEVER] = Field(
        None,
        gt=0,
        description="Time without a new message after which a thread is deleted with its messages. Set it if conversations "
        "must not be kept.",
    )
    kept_events_days: float = Field(
        7,
        gt=0,
        le=3650,
        description="Time for which an event for a key is kept if no run waits for it. It applies to events that come from now "
        "on. Increase it if events come long before the runs that wait for them.",
    )
