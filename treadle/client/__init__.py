"""The client of a Treadle server, for Python programs: `AsyncClient` with asyncio, and `Client` without.

It uses only the public API, over HTTP and Server-Sent Events. docs/api.md shows how to use it. Its names are
stable like those of `treadle`; fields of results are added as the schema grows.

Modules:
    aio: `AsyncClient`.
    sync: `Client`.
    operations: The operations as values; the methods of both clients.
    models: The results of operations.
    errors: The errors of a client.
    view: `RunView`, the state of a run that follows from its updates.
    run_watch: The position in the updates of a run.
    retries: Whether and when an operation is sent again.
    exchange: Requests and responses, without input and output.
    documents: The documents of operations.graphql.
"""

from engine.states import NodeStatus, RunStatus
from treadle.client.aio import AsyncClient
from treadle.client.errors import (
    AddressError,
    ConflictProblemError,
    GeneralProblemError,
    InvalidStateProblemError,
    NotFoundProblemError,
    OperationError,
    ProblemError,
    RunFailedError,
    ServerUnavailable,
    TreadleError,
    ValidationProblemError,
)
from treadle.client.models import (
    CheckpointSavedData,
    DraftData,
    EdgeStateChangedData,
    EdgeStateData,
    FieldProblemData,
    HistoryExpiredData,
    LogRecordedData,
    NodeOutputDeltaData,
    NodeStateChangedData,
    NodeStateData,
    RunData,
    RunErrorData,
    RunPage,
    RunProgressedData,
    RunSnapshotData,
    RunStatusChangedData,
    RunUpdateData,
    SpecReportData,
    VersionData,
    ViewerData,
    WaitData,
    WorkflowData,
    WorkflowPage,
)
from treadle.client.sync import Client
from treadle.client.view import RunView

__all__ = [
    "AddressError",
    "AsyncClient",
    "CheckpointSavedData",
    "Client",
    "ConflictProblemError",
    "DraftData",
    "EdgeStateChangedData",
    "EdgeStateData",
    "FieldProblemData",
    "GeneralProblemError",
    "HistoryExpiredData",
    "InvalidStateProblemError",
    "LogRecordedData",
    "NodeOutputDeltaData",
    "NodeStateChangedData",
    "NodeStateData",
    "NodeStatus",
    "NotFoundProblemError",
    "OperationError",
    "ProblemError",
    "RunData",
    "RunErrorData",
    "RunFailedError",
    "RunPage",
    "RunProgressedData",
    "RunSnapshotData",
    "RunStatus",
    "RunStatusChangedData",
    "RunUpdateData",
    "RunView",
    "ServerUnavailable",
    "SpecReportData",
    "TreadleError",
    "ValidationProblemError",
    "VersionData",
    "ViewerData",
    "WaitData",
    "WorkflowData",
    "WorkflowPage",
]
