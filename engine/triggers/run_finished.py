"""The trigger kind `run_finished`: fires when a run of a workflow ends, such as for an error workflow.

The transaction that ends a run inserts the firings: a database trigger does it (migration 0012), which
reads the config and makes the event. So every way to end a run is covered, and each once.
"""

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from engine.sdk.trigger import TriggerConfig, TriggerKind
from engine.types import JSON
from engine.values.timestamps import format_timestamp

EndStatus = Literal["COMPLETED", "FAILED", "CANCELLED"]


class RunFinishedConfig(TriggerConfig):
    """The config of a `run_finished`."""

    workflowId: str | None = Field(  # noqa: N815
        None,
        max_length=100,
        title="Workflow",
        description="The workflow whose runs fire. Default: any of the project, without child runs.",
        examples=["wf_01h455vb4pex5vsknk084sn02q"],
    )
    statuses: list[EndStatus] = Field(
        ["FAILED"],
        min_length=1,
        max_length=3,
        title="Statuses",
        description="The statuses that fire.",
        examples=[["FAILED"]],
    )
    codes: list[str] = Field(
        [],
        max_length=50,
        title="Error codes",
        description="The codes of errors that fire, such as CRASH_LOOP, TIMEOUT and DEADLINE. Empty: all.",
        examples=[["CRASH_LOOP", "TIMEOUT"]],
    )


class RunFinishedKind(TriggerKind[RunFinishedConfig]):
    """Fires when a run ends with one of its statuses and codes."""

    name: ClassVar[str] = "run_finished"
    title: ClassVar[str] = "Run finished"
    description: ClassVar[str] = "Starts a run when a run of a workflow ends, such as for an error workflow."
    Config: ClassVar[type[TriggerConfig]] = RunFinishedConfig
    event_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "runId": {"type": "string"},
            "workflowId": {"type": ["string", "null"]},
            "versionId": {"type": "string"},
            "status": {"type": "string", "enum": ["COMPLETED", "FAILED", "CANCELLED"]},
            "message": {"type": ["string", "null"]},
            "code": {"type": ["string", "null"], "description": "The code of the error."},
            "error": {"type": ["object", "null"], "description": "The error, with `code`, `message` and `nodeId`."},
            "source": {"type": "string"},
            "createdBy": {"type": "string"},
            "createdAt": {"type": "string", "format": "date-time"},
            "finishedAt": {"type": "string", "format": "date-time"},
            "depth": {"type": "integer", "description": "1, and one more for each run that such a trigger started."},
        },
        "required": ["runId", "status", "createdAt", "finishedAt", "depth"],
    }
    example: ClassVar[dict[str, Any]] = {"statuses": ["FAILED"], "codes": ["CRASH_LOOP", "TIMEOUT"]}

    def event(self, config: RunFinishedConfig, planned: datetime) -> dict[str, JSON]:
        status = config.statuses[0]
        code = (config.codes or ["NODE"])[0] if status == "FAILED" else None
        return {
            "runId": "run_sample",
            "workflowId": config.workflowId,
            "versionId": "ver_sample",
            "status": status,
            "message": "A sample",
            "code": code,
            "error": None if code is None else {"code": code, "message": "A sample", "nodeId": None},
            "source": "MANUAL",
            "createdBy": "sample",
            "createdAt": format_timestamp(planned),
            "finishedAt": format_timestamp(planned),
            "depth": 1,
        }
