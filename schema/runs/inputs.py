"""Inputs and payloads of run mutations, and their conversion to arguments of resolvers."""

from datetime import datetime
from typing import Any

import strawberry

from engine.states import OnLimit, RunMode, RunSource, RunStatus
from persistence.runs.run import RunOptions, RunThread
from persistence.runs.run_filter import RunFilter
from persistence.runs.run_order import NEWEST_FIRST, OrderDirection, RunOrder, RunOrderField
from resolvers.runs.start import StartArguments
from schema import enums as enums
from schema.payload import Payload
from schema.runs.checkpoint import CheckpointType
from schema.runs.run import RunType
from schema.scalars import JSON


@strawberry.input(name="RunFilter")
class RunFilterInput:
    workflow_id: strawberry.ID | None = None
    version_id: strawberry.ID | None = None
    trigger_id: strawberry.ID | None = None
    status: list[RunStatus] | None = None
    source: list[RunSource] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    tags: list[str] | None = strawberry.field(default=None, description="Runs with all of these tags.")
    error_code: list[str] | None = strawberry.field(default=None, description="Runs with one of these error codes.")
    duration_ms_min: float | None = strawberry.field(
        default=None, description="Runs that ended, at least this time after their first start."
    )
    duration_ms_max: float | None = strawberry.field(
        default=None, description="Runs that ended, at most this time after their first start."
    )
    search: str | None = strawberry.field(
        default=None,
        description="1 to 200 characters: a part of the error (code and message) or of the workflow's name, in upper or "
        "lower case, or a tag or the id of the run. In a list of one workflow, its name does not count.",
    )


@strawberry.input(name="RunOrder")
class RunOrderInput:
    field: RunOrderField
    direction: OrderDirection = OrderDirection.DESC


def run_order(order: RunOrderInput | None) -> RunOrder:
    return NEWEST_FIRST if order is None else RunOrder(order.field, order.direction)


def run_filter(filter: RunFilterInput | None) -> RunFilter:
    return RunFilter() if filter is None else RunFilter(**vars(filter))


@strawberry.input(description="The conversation that a run belongs to.")
class RunThreadInput:
    key: str = strawberry.field(
        description="1 to 200 visible characters, such as the id of a chat. Runs of a project with the same key share the "
        "messages, whatever their workflow."
    )
    on_busy: OnLimit = strawberry.field(
        default=OnLimit.QUEUE, description="The effect on this run while another run of the thread is active."
    )


@strawberry.input
class RunOptionsInput:
    timeout_s: float | None = strawberry.field(
        default=None, description="Seconds until the run fails with code TIMEOUT."
    )
    breakpoints: list[strawberry.ID] | None = strawberry.field(default=None, description="Pause before these nodes.")
    stepwise: bool | None = strawberry.field(default=False, description="Pause after every step.")
    priority: int | None = strawberry.field(
        default=0, description="-100 to 100. Among the queued runs of a project, a higher number starts first."
    )
    tags: list[str] | None = strawberry.field(
        default=None,
        description="At most 20 tags of 1 to 64 characters, by which runs are found. Retries, forks and child runs "
        "inherit them unless they have their own.",
    )
    thread: RunThreadInput | None = strawberry.field(
        default=None,
        description="The conversation that the run belongs to. One run of a thread is executed at a time. Not for workflows "
        "with `concurrency`.",
    )


def run_options(options: RunOptionsInput | None) -> RunOptions:
    if options is None:
        return RunOptions()
    breakpoints = tuple(sorted(set(options.breakpoints or ())))
    thread = None if options.thread is None else RunThread(options.thread.key, options.thread.on_busy)
    return RunOptions(
        options.timeout_s, breakpoints, bool(options.stepwise), options.priority or 0, _tags(options), thread
    )


def _tags(options: RunOptionsInput) -> tuple[str, ...] | None:
    return None if options.tags is None else tuple(dict.fromkeys(options.tags))


def _or_empty(inputs: Any) -> Any:
    """Return `{}` for omitted or null inputs.

    It is not a default of the schema, because introspection cannot print an object as the default
    of a scalar.
    """
    return {} if inputs is None or inputs is strawberry.UNSET else inputs


@strawberry.input
class CreateRunInput:
    workflow_id: strawberry.ID
    version_id: strawberry.ID | None = None
    draft_revision: int | None = None
    inputs: JSON | None = strawberry.field(default=strawberry.UNSET, description="Default: `{}`.")
    options: RunOptionsInput | None = None
    idempotency_key: str | None = None

    def arguments(self) -> StartArguments:
        return StartArguments(
            workflow_id=self.workflow_id,
            version_id=self.version_id,
            draft_revision=self.draft_revision,
            inputs=_or_empty(self.inputs),
            options=run_options(self.options),
            idempotency_key=self.idempotency_key,
        )


@strawberry.input
class ExecuteRunInput:
    run_id: strawberry.ID
    inputs: JSON | None = strawberry.field(
        default=None, description="Replaces the inputs that the run was created with."
    )
    idempotency_key: str | None = None


@strawberry.input
class RunWorkflowInput:
    workflow_id: strawberry.ID
    version_id: strawberry.ID | None = strawberry.field(
        default=None, description="Default: the published version, else the draft."
    )
    draft_revision: int | None = strawberry.field(default=None, description="Run the draft, at exactly this revision.")
    inputs: JSON | None = strawberry.field(default=strawberry.UNSET, description="Default: `{}`.")
    mode: RunMode | None = RunMode.ASYNC
    timeout_ms: int | None = 30000
    options: RunOptionsInput | None = None
    idempotency_key: str | None = None

    def arguments(self) -> StartArguments:
        return StartArguments(
            workflow_id=self.workflow_id,
            version_id=self.version_id,
            draft_revision=self.draft_revision,
            inputs=_or_empty(self.inputs),
            mode=self.mode or RunMode.ASYNC,
            timeout_ms=30_000 if self.timeout_ms is None else self.timeout_ms,
            options=run_options(self.options),
            idempotency_key=self.idempotency_key,
        )


@strawberry.input
class RunAdhocInput:
    project_id: strawberry.ID | None = None
    spec: JSON
    inputs: JSON | None = strawberry.field(default=strawberry.UNSET, description="Default: `{}`.")
    mode: RunMode | None = RunMode.ASYNC
    timeout_ms: int | None = 30000
    options: RunOptionsInput | None = None
    idempotency_key: str | None = None

    def arguments(self) -> StartArguments:
        return StartArguments(
            project_id=self.project_id,
            spec=self.spec,
            inputs=_or_empty(self.inputs),
            mode=self.mode or RunMode.ASYNC,
            timeout_ms=30_000 if self.timeout_ms is None else self.timeout_ms,
            options=run_options(self.options),
            idempotency_key=self.idempotency_key,
        )


@strawberry.input
class CancelRunInput:
    run_id: strawberry.ID
    reason: str | None = None
    idempotency_key: str | None = None


@strawberry.input
class PauseRunInput:
    run_id: strawberry.ID
    timeout_ms: int | None = 1000
    idempotency_key: str | None = None


@strawberry.input
class ResumeRunInput:
    run_id: strawberry.ID
    checkpoint_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="An earlier checkpoint rewinds the run: every node after it runs again.",
    )
    wait_id: strawberry.ID | None = strawberry.field(default=None, description="The question that `answer` answers.")
    answer: JSON | None = strawberry.UNSET
    idempotency_key: str | None = None


@strawberry.input
class StepRunInput:
    run_id: strawberry.ID
    timeout_ms: int | None = 1000
    idempotency_key: str | None = None


@strawberry.input
class SetBreakpointsInput:
    run_id: strawberry.ID
    node_ids: list[strawberry.ID]
    idempotency_key: str | None = None


@strawberry.type
class RunPayload(Payload):
    run: RunType | None = None


@strawberry.type
class RunPausePayload(Payload):
    run: RunType | None = None
    checkpoint: CheckpointType | None = strawberry.field(
        default=None, description="The checkpoint that the run will continue from; null unless PAUSED."
    )
