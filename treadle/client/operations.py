"""The operations as values: a document, its variables, and the function that reads the result.

`AsyncClient` and `Client` have a method for each function of this module. A mutation with an idempotency
key gets one here if the caller gives none, so that it can be repeated: the server executes it once.
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from treadle.client.documents import document
from treadle.client.errors import TreadleError, problem_error
from treadle.client.models import (
    ApiModel,
    DraftData,
    NodeStateData,
    RunData,
    RunPage,
    SpecReportData,
    VersionData,
    ViewerData,
    WaitData,
    WorkflowData,
    WorkflowPage,
)

Result = TypeVar("Result")
Model = TypeVar("Model", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Operation(Generic[Result]):
    """A request, and how to read its result.

    Attributes:
        read: Reads the result from the `data` of the response. Raises ProblemError.
        is_repeatable: Whether it may be sent again if the response is lost.
        wait_s: Seconds that the server may wait before it responds.
    """

    text: str
    variables: Mapping[str, Any]
    read: Callable[[dict[str, Any]], Result]
    is_repeatable: bool = True
    wait_s: float = 0.0


def custom(
    text: str, variables: Mapping[str, Any] | None, *, is_repeatable: bool | None = None
) -> Operation[dict[str, Any]]:
    """Create an operation from a document of the caller. Its result is the `data` of the response.

    A document with the word `mutation` is repeatable only if the caller says so.
    """
    repeatable = is_repeatable if is_repeatable is not None else re.search(r"\bmutation\b", text) is None
    return Operation(text, dict(variables or {}), dict, repeatable)


def viewer() -> Operation[ViewerData]:
    """Return who you are, and the release of the server."""
    return Operation(document("Viewer"), {}, lambda data: ViewerData.model_validate(data["viewer"]))


def run(id: str) -> Operation[RunData | None]:
    """Return a run; None if it does not exist or you may not see it."""
    return Operation(document("Run"), {"id": id}, lambda data: _optional(RunData, data["run"]))


def runs(
    filter: Mapping[str, Any] | None = None,
    *,
    project_id: str | None = None,
    first: int = 25,
    after: str | None = None,
) -> Operation[RunPage]:
    """Return a page of runs, newest first. `filter` has the fields of `RunFilter`."""
    variables = {"filter": filter, "projectId": project_id, "first": first, "after": after}
    return Operation(document("Runs"), variables, lambda data: RunPage.model_validate(data["runs"]))


def node_states(run_id: str) -> Operation[list[NodeStateData] | None]:
    """Return the present state of every node, in the order of the spec; None if there is no such run."""
    return Operation(document("NodeStates"), {"id": run_id}, _of_run(NodeStateData, "nodeStates"))


def waits(run_id: str) -> Operation[list[WaitData] | None]:
    """Return everything that a run waits for now; None if there is no such run."""
    return Operation(document("Waits"), {"id": run_id}, _of_run(WaitData, "waits"))


def workflow(id: str) -> Operation[WorkflowData | None]:
    """Return a workflow with its draft; None if it does not exist or you may not see it."""
    return Operation(document("Workflow"), {"id": id}, lambda data: _optional(WorkflowData, data["workflow"]))


def workflows(
    search: str | None = None, *, project_id: str | None = None, first: int = 25, after: str | None = None
) -> Operation[WorkflowPage]:
    """Return a page of workflows. `search` is a part of the name or the description."""
    variables = {"search": search, "projectId": project_id, "first": first, "after": after}
    return Operation(document("Workflows"), variables, lambda data: WorkflowPage.model_validate(data["workflows"]))


def validate_spec(spec: Any) -> Operation[SpecReportData]:
    """Return all problems of a spec. Neither saves nor executes anything."""
    return Operation(
        document("ValidateSpec"), {"spec": spec}, lambda data: SpecReportData.model_validate(data["validateSpec"])
    )


def create_workflow(
    name: str,
    *,
    spec: Any = None,
    template: str | None = None,
    description: str | None = None,
    project_id: str | None = None,
) -> Operation[WorkflowData]:
    """Create a workflow with a draft, from a spec or from a template."""
    fields = {
        "name": name,
        "spec": spec,
        "template": template,
        "description": description,
        "projectId": project_id,
    }
    return _mutation("CreateWorkflow", fields, _object(WorkflowData, "workflow"))


def delete_workflow(id: str, *, cancel_runs: bool = False) -> Operation[str]:
    """Delete a workflow, and return its id. Active runs refuse it, unless `cancel_runs` is true."""
    return _mutation("DeleteWorkflow", {"id": id, "cancelRuns": cancel_runs}, lambda payload: str(payload["deletedId"]))


def save_draft(workflow_id: str, spec: Any, *, expected_revision: int) -> Operation[DraftData]:
    """Save the draft if it still has `expected_revision`, else raise ConflictProblemError with the present draft."""
    fields = {"workflowId": workflow_id, "spec": spec, "expectedRevision": expected_revision}
    return _mutation("SaveDraft", fields, _object(DraftData, "draft"))


def create_version(
    workflow_id: str, *, publish: bool = False, expected_revision: int | None = None
) -> Operation[VersionData]:
    """Create a version from the draft, or return the one with the same content."""
    fields = {"workflowId": workflow_id, "publish": publish, "expectedRevision": expected_revision}
    # A repeat returns the version of the first call.
    return _mutation("CreateVersion", fields, _object(VersionData, "version"), is_repeatable=True)


def publish_version(version_id: str) -> Operation[VersionData]:
    """Make a version the one that runs by default."""
    # A repeat leaves the version published.
    return _mutation("PublishVersion", {"versionId": version_id}, _object(VersionData, "version"), is_repeatable=True)


def create_run(
    workflow_id: str,
    inputs: Any = None,
    *,
    version_id: str | None = None,
    draft_revision: int | None = None,
    options: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Operation[RunData]:
    """Create a run without starting it. `execute_run` starts it."""
    fields = {
        "workflowId": workflow_id,
        "inputs": inputs,
        "versionId": version_id,
        "draftRevision": draft_revision,
        "options": options,
    }
    return _run_mutation("CreateRun", fields, idempotency_key)


def execute_run(run_id: str, inputs: Any = None, *, idempotency_key: str | None = None) -> Operation[RunData]:
    """Start a run that is PENDING."""
    return _run_mutation("ExecuteRun", {"runId": run_id, "inputs": inputs}, idempotency_key)


def run_workflow(
    workflow_id: str,
    inputs: Any = None,
    *,
    version_id: str | None = None,
    draft_revision: int | None = None,
    options: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Operation[RunData]:
    """Start a run: of the published version, else of the draft. Follow it with `watch_run` or `wait_for_run`.

    `options` has the fields of `RunOptionsInput`.
    """
    fields = {
        "workflowId": workflow_id,
        "inputs": inputs,
        "versionId": version_id,
        "draftRevision": draft_revision,
        "options": options,
    }
    return _run_mutation("RunWorkflow", fields, idempotency_key)


def run_adhoc(
    spec: Any,
    inputs: Any = None,
    *,
    project_id: str | None = None,
    options: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Operation[RunData]:
    """Start a run of a spec that belongs to no workflow."""
    fields = {"spec": spec, "inputs": inputs, "projectId": project_id, "options": options}
    return _run_mutation("RunAdhoc", fields, idempotency_key)


def cancel_run(run_id: str, reason: str | None = None, *, idempotency_key: str | None = None) -> Operation[RunData]:
    """Cancel a run: at once if no worker executes it, else it is CANCELLING until its code has stopped."""
    return _run_mutation("CancelRun", {"runId": run_id, "reason": reason}, idempotency_key)


def pause_run(run_id: str, *, timeout_ms: int = 1000, idempotency_key: str | None = None) -> Operation[RunData]:
    """Pause a run after its running nodes. Returns it PAUSED, or PAUSING after `timeout_ms`."""
    return _run_mutation("PauseRun", {"runId": run_id, "timeoutMs": timeout_ms}, idempotency_key)


def resume_run(
    run_id: str,
    *,
    checkpoint_id: str | None = None,
    wait_id: str | None = None,
    answer: Any = None,
    idempotency_key: str | None = None,
) -> Operation[RunData]:
    """Continue a PAUSED run, from an earlier checkpoint if named, or answer the question `wait_id`."""
    fields = {"runId": run_id, "checkpointId": checkpoint_id, "waitId": wait_id, "answer": answer}
    return _run_mutation("ResumeRun", fields, idempotency_key)


def step_run(run_id: str, *, timeout_ms: int = 1000, idempotency_key: str | None = None) -> Operation[RunData]:
    """Run exactly the next step of a PAUSED run, then pause again."""
    return _run_mutation("StepRun", {"runId": run_id, "timeoutMs": timeout_ms}, idempotency_key)


def retry_run(
    run_id: str,
    *,
    from_: str = "FAILED",
    options: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Operation[RunData]:
    """Create a run with the same inputs: `from_` START, or FAILED, where finished nodes keep their outputs."""
    return _run_mutation("RetryRun", {"runId": run_id, "from": from_, "options": options}, idempotency_key)


def fork_run(
    checkpoint_id: str,
    *,
    patch: Mapping[str, Any] | None = None,
    version_id: str | None = None,
    options: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Operation[RunData]:
    """Create a run from a checkpoint, with changed outputs (`patch`, by node id) or another version."""
    fields = {"checkpointId": checkpoint_id, "patch": patch, "versionId": version_id, "options": options}
    return _run_mutation("ForkRun", fields, idempotency_key)


def start(
    workflow_id: str | None,
    spec: Any,
    inputs: Any,
    options: Mapping[str, Any] | None,
    idempotency_key: str | None,
) -> Operation[RunData]:
    """Create the operation that starts a run of a workflow or of a spec, for `run_and_wait`."""
    if (workflow_id is None) == (spec is None):
        raise ValueError("run_and_wait needs either a workflow_id or a spec")
    if workflow_id is not None:
        return run_workflow(workflow_id, inputs, options=options, idempotency_key=idempotency_key)
    return run_adhoc(spec, inputs, options=options, idempotency_key=idempotency_key)


def existing(run: RunData | None, run_id: str) -> RunData:
    """Return the run. Raises TreadleError if it was deleted while the client waited for it."""
    if run is None:
        raise TreadleError(f"the run {run_id} was deleted while the client waited for its end")
    return run


def updates_of(run_id: str, after: int | None, types: Sequence[str] | None) -> Operation[dict[str, Any]]:
    """Create the subscription to a run, for `watch_run`."""
    variables = {"runId": run_id, "after": after, "types": None if types is None else list(types)}
    return Operation(document("WatchRun"), variables, lambda data: dict(data["runUpdates"]))


def _run_mutation(name: str, fields: Mapping[str, Any], idempotency_key: str | None) -> Operation[RunData]:
    keyed = {**fields, "idempotencyKey": idempotency_key or str(uuid.uuid4())}
    return _mutation(name, keyed, _object(RunData, "run"), is_repeatable=True)


def _mutation(
    name: str,
    fields: Mapping[str, Any],
    read: Callable[[dict[str, Any]], Result],
    *,
    is_repeatable: bool = False,
) -> Operation[Result]:
    """Create a mutation. A field that is None is left out, so that the server uses its default."""
    given = {key: value for key, value in fields.items() if value is not None}
    field = name[0].lower() + name[1:]

    def read_payload(data: dict[str, Any]) -> Result:
        payload = data[field]
        if payload["errors"]:
            raise problem_error(payload["errors"])
        return read(payload)

    wait_s = given.get("timeoutMs", 0) / 1000
    return Operation(document(name), {"input": given}, read_payload, is_repeatable, wait_s)


def _object(model: type[Model], field: str) -> Callable[[dict[str, Any]], Model]:
    return lambda payload: model.model_validate(payload[field])


def _optional(model: type[Model], value: Any) -> Model | None:
    return None if value is None else model.model_validate(value)


def _of_run(model: type[Model], field: str) -> Callable[[dict[str, Any]], list[Model] | None]:
    def read(data: dict[str, Any]) -> list[Model] | None:
        run = data["run"]
        return None if run is None else [model.model_validate(value) for value in run[field]]

    return read
