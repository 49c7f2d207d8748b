"""The results of operations as values. `RunData` has the fields of `Run` that operations.graphql selects, and so on.

A server may be newer than this client: fields that it adds are ignored, and new members of an enum are
plain texts.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from engine.states import (
    TERMINAL,
    EdgeStatus,
    LogLevel,
    NodeStatus,
    RunAction,
    RunMode,
    RunSource,
    RunStatus,
    Severity,
    VersionStatus,
)
from treadle.client.errors import RunFailedError


def _known_first() -> Any:
    return Field(union_mode="left_to_right")


AnyRunStatus = Annotated[RunStatus | str, _known_first()]
AnyNodeStatus = Annotated[NodeStatus | str, _known_first()]
AnyEdgeStatus = Annotated[EdgeStatus | str, _known_first()]
AnyVersionStatus = Annotated[VersionStatus | str, _known_first()]
AnyRunSource = Annotated[RunSource | str, _known_first()]
AnyRunMode = Annotated[RunMode | str, _known_first()]
AnyRunAction = Annotated[RunAction | str, _known_first()]
AnyLogLevel = Annotated[LogLevel | str, _known_first()]
AnySeverity = Annotated[Severity | str, _known_first()]


class ApiModel(BaseModel):
    """An object of the API. Its fields have the names of the schema, in snake_case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class RunErrorData(ApiModel):
    """Why a run or a node has failed."""

    node_id: str | None
    code: str
    message: str
    retryable: bool
    details: Any = None


class RunOptionsData(ApiModel):
    """How a run is executed."""

    timeout_s: float | None
    breakpoints: list[str]
    stepwise: bool
    priority: int
    tags: list[str]


class WorkflowName(ApiModel):
    """The workflow of a run."""

    id: str
    name: str


class VersionNumber(ApiModel):
    """The version of a run. Number 0 is the spec of `run_adhoc`."""

    id: str
    number: int


class RunData(ApiModel):
    """One execution of a version of a workflow."""

    id: str
    status: AnyRunStatus
    status_message: str | None
    source: AnyRunSource
    mode: AnyRunMode
    inputs: Any
    output: Any
    progress: float
    attempt: int
    lineage: int
    last_seq: int
    created_by: str
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    duration_ms: float | None
    available_actions: list[AnyRunAction]
    error: RunErrorData | None
    options: RunOptionsData
    workflow: WorkflowName | None
    version: VersionNumber

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended: COMPLETED, FAILED or CANCELLED."""
        return self.status in TERMINAL

    def raise_for_status(self) -> "RunData":
        """Return the run if it is not FAILED or CANCELLED. Raises RunFailedError."""
        if self.status in (RunStatus.FAILED, RunStatus.CANCELLED):
            raise RunFailedError(self.id, self.status, self.error)
        return self


class EdgeStateData(ApiModel):
    """Whether an edge was taken, as the latest visit of its source decided."""

    edge_id: str
    status: AnyEdgeStatus
    visits: int


class UsageData(ApiModel):
    """Tokens and cost of model calls."""

    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


class NodeStateData(ApiModel):
    """The state of one node of a run."""

    node_id: str
    label: str
    type: str
    status: AnyNodeStatus
    progress: float
    message: str | None
    visits: int
    attempt: int
    partial_output: str | None
    output: Any
    port: str | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: float | None
    seq: int
    error: RunErrorData | None
    usage: UsageData | None
    edge_states: list[EdgeStateData]


class RunReference(ApiModel):
    """Another run, such as the child that a node waits for."""

    id: str
    status: AnyRunStatus


class WaitData(ApiModel):
    """Something that a run waits for. `wait_id` is set for a question to a person, which `resume_run` answers."""

    typename: str = Field(alias="__typename")
    node_id: str
    since: datetime
    wait_id: str | None = None
    prompt: Any = None
    answer_schema: Any = Field(default=None, alias="schema")
    expires_at: datetime | None = None
    until: datetime | None = None
    run: RunReference | None = None


class DraftData(ApiModel):
    """The editable spec of a workflow. Pass `revision` as `expected_revision` to save."""

    revision: int
    spec: Any
    spec_hash: str
    updated_at: datetime
    updated_by: str


class VersionData(ApiModel):
    """An immutable snapshot of a spec, without the spec."""

    id: str
    number: int
    status: AnyVersionStatus
    spec_hash: str
    created_at: datetime
    created_by: str
    published_at: datetime | None


class WorkflowData(ApiModel):
    """A workflow with its draft, and the version that runs by default."""

    id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    draft: DraftData
    published_version: VersionData | None


class FieldProblemData(ApiModel):
    """What is wrong with one field of an input or a spec."""

    field: str
    code: str
    message: str
    severity: AnySeverity
    node_id: str | None
    edge_id: str | None
    line: int | None
    column: int | None


class SpecReportData(ApiModel):
    """What validation has found in a spec."""

    ok: bool
    errors: list[FieldProblemData]
    warnings: list[FieldProblemData]
    spec_hash: str | None
    plan: list[list[str]]


class ProjectData(ApiModel):
    """A project that the caller has a role in."""

    id: str
    name: str


class ServerInfoData(ApiModel):
    """The server that answers."""

    version: str


class ViewerData(ApiModel):
    """The caller."""

    subject: str
    scopes: list[str]
    projects: list[ProjectData]
    server: ServerInfoData


class PageEnd(ApiModel):
    """How to read the next page."""

    has_next_page: bool
    end_cursor: str | None


class RunPage(ApiModel):
    """A page of runs, newest first. Pass `page_info.end_cursor` as `after` to read the next one."""

    nodes: list[RunData]
    page_info: PageEnd


class WorkflowPage(ApiModel):
    """A page of workflows. Pass `page_info.end_cursor` as `after` to read the next one."""

    nodes: list[WorkflowData]
    page_info: PageEnd


class UpdateData(ApiModel):
    """A message of `watch_run`."""

    seq: int


class RunSnapshotData(UpdateData):
    """The whole state of a run after the event `seq`."""

    typename: Literal["RunSnapshot"] = Field("RunSnapshot", alias="__typename")
    run: RunData
    node_states: list[NodeStateData]
    edge_states: list[EdgeStateData]


class RunEventData(UpdateData):
    """Something that happened in a run. `node_id` is null if it is not of one node."""

    run_id: str
    at: datetime
    node_id: str | None


class NodeStateChangedData(RunEventData):
    """The state of a node changed."""

    typename: Literal["NodeStateChanged"] = Field("NodeStateChanged", alias="__typename")
    node_state: NodeStateData


class EdgeStateChangedData(RunEventData):
    """An edge was taken or not taken, or its source runs again."""

    typename: Literal["EdgeStateChanged"] = Field("EdgeStateChanged", alias="__typename")
    edge_state: EdgeStateData


class NodeOutputDeltaData(RunEventData):
    """Text that a node streams. Write it at `offset`, in code points: it may be repeated after a reconnection."""

    typename: Literal["NodeOutputDelta"] = Field("NodeOutputDelta", alias="__typename")
    visit: int
    attempt: int
    offset: int
    text: str


class LogRecordedData(RunEventData):
    """A line of the log."""

    typename: Literal["LogRecorded"] = Field("LogRecorded", alias="__typename")
    level: AnyLogLevel
    message: str
    fields: dict[str, Any]


class CheckpointSavedData(RunEventData):
    """The run can be rewound to this point, and forked from it."""

    typename: Literal["CheckpointSaved"] = Field("CheckpointSaved", alias="__typename")
    checkpoint_id: str
    step: int


class RunProgressedData(RunEventData):
    """The progress of the run changed."""

    typename: Literal["RunProgressed"] = Field("RunProgressed", alias="__typename")
    progress: float


class RunStatusChangedData(RunEventData):
    """The status of the run changed."""

    typename: Literal["RunStatusChanged"] = Field("RunStatusChanged", alias="__typename")
    status: AnyRunStatus
    previous: AnyRunStatus | None
    message: str


class HistoryExpiredData(RunEventData):
    """Retention has deleted events that were not received. A new snapshot follows, if any state is left."""

    typename: Literal["HistoryExpired"] = Field("HistoryExpired", alias="__typename")
    first_seq: int


RunUpdateData = (
    RunSnapshotData
    | NodeStateChangedData
    | EdgeStateChangedData
    | NodeOutputDeltaData
    | LogRecordedData
    | CheckpointSavedData
    | RunProgressedData
    | RunStatusChangedData
    | HistoryExpiredData
)
"""A message of `watch_run`. `typename` is the name of its type in the schema."""
