"""Derive runs: a retry from the start or from the failed nodes, and a fork from any checkpoint.

Each is one transaction. It reads only rows that never change again, and writes a run that is
executed like any other. A crash leaves the whole new run, or none.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import EdgeVisits
from engine.fork.frontier import Frontier, channel_values, edge_indexes, find_due, read_frontier, restart_unfinished
from engine.fork.history import RunHistory
from engine.fork.migration import migrate_frontier
from engine.fork.patch import PatchedLeave, PatchRefused, apply_patch, settle_patched
from engine.graph.bound_node import BoundNode, bind_nodes
from engine.graph.edge_states import edge_visits, edges_before
from engine.graph.plan import Plan, PlanNode, make_plan
from engine.problems import FieldProblem
from engine.spec.model import SpecError
from engine.spec.parser import parse
from engine.states import WITHOUT_OUTPUT, RetryFrom, RunSource, RunStatus
from engine.types import JSON
from engine.values.json_schema import check_inputs, complete_inputs
from persistence.checkpoints import snapshots
from persistence.checkpoints.clone import RunClone, derive, last_visit, with_final_status
from persistence.checkpoints.snapshots import HeadSnapshot, VisitResult
from persistence.events import history
from persistence.events.history import Checkpoint
from persistence.problems import EXPIRED_CHECKPOINT, Forbidden, Invalid, InvalidState, NotFound, invalid
from persistence.runs import admission
from persistence.runs.run import CommandResult, Run, RunOptions, with_values
from persistence.threads import thread as threads
from persistence.workflows import versions
from persistence.workflows.versions import Version
from resolvers.checks import check_options
from resolvers.context import Context
from resolvers.idempotent import audited, idempotency_arguments, known_run, run_idempotent
from resolvers.permissions import REPLACE_ANSWERS
from resolvers.runs.start import own_run
from resolvers.secrets import OTHER_OUTPUTS, check_use
from resolvers.workflows.specs import check_runnable

FROM_FAILED = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})
OTHER_ANSWERS = (
    "A fork with a `patch`, or of another version, requires the role editor in the project if its version names "
    "who may answer a question: the outputs decide in place of such a person. Fork without both."
)

OTHER_CHILDREN = (
    "A fork whose `patch` sets the output of a node that starts child runs requires the role editor in the project: "
    "the output decides in place of the persons whom a question of a child run names. Leave these nodes out."
)
SUBWORKFLOW = "subworkflow"


@dataclass(frozen=True, slots=True)
class RetryArguments:
    """`options` None means the options of the run."""

    run_id: str
    start: RetryFrom = RetryFrom.FAILED
    options: RunOptions | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class ForkArguments:
    """`patch` holds outputs by node id. `version_id` and `options` None mean those of the run."""

    checkpoint_id: str
    patch: JSON = None
    version_id: str | None = None
    options: RunOptions | None = None
    idempotency_key: str | None = None


async def retry_run(context: Context, arguments: RetryArguments) -> Run:
    """Create a run with the same version and inputs.

    Raises:
        InvalidState: The run is not finished, or no node of it failed or was stopped.
    """
    run = await own_run(context, "retryRun", arguments.run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await _retry(connection, context, await known_run(connection, context, arguments.run_id), arguments)

    return await run_idempotent(
        context,
        run.project_id,
        arguments.idempotency_key,
        "retryRun",
        _repeatable(arguments),
        audited(context, "retryRun", act, retryOf=run.id, **{"from": arguments.start}),
    )


async def fork_run(context: Context, arguments: ForkArguments) -> Run:
    """Create a run that continues from a checkpoint.

    Raises:
        Invalid: With all reasons why the checkpoint does not fit the version, the patch or the
            inputs.
        Forbidden: The version uses secrets, or names who may answer a question, the fork changes
            outputs, and the caller has a lower role than editor.
    """
    checkpoint = await _checkpoint(context, arguments.checkpoint_id)
    run = await own_run(context, "forkRun", checkpoint.run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        try:
            return await _fork(connection, context, run, checkpoint, arguments)
        except (PatchRefused, SpecError) as error:
            raise Invalid(error.problems) from error

    return await run_idempotent(
        context,
        run.project_id,
        arguments.idempotency_key,
        "forkRun",
        _repeatable(arguments),
        audited(context, "forkRun", act, checkpointId=checkpoint.id),
    )


async def _retry(connection: AsyncConnection, context: Context, run: Run, arguments: RetryArguments) -> CommandResult:
    if not run.status.is_terminal:
        raise InvalidState(f"Only a finished run can be retried; this run is {run.status}.", run.status)
    if arguments.start is RetryFrom.FAILED and run.status not in FROM_FAILED:
        message = f"The run is {run.status}: no node failed. It can be retried only from START."
        raise InvalidState(message, run.status)
    version = await versions.get(connection, context.caller, run.version_id)
    accepted = await _accept(connection, context, run, version, RunSource.RETRY, arguments.options)
    clone = await _failed_head(connection, run, version) if arguments.start is RetryFrom.FAILED else None
    if clone is None and run.options.thread is not None and run.options.thread == accepted.run.options.thread:
        await threads.remove_attempts(connection, run.id)
    message = f"Retry of {run.id} from {'the start' if clone is None else 'its failed nodes'}"
    return await derive(connection, accepted, message, clone, retry_of=run.id)


async def _failed_head(connection: AsyncConnection, run: Run, version: Version) -> RunClone | None:
    """Return the head to continue from, or None if the run had not started any node.

    Raises:
        InvalidState: Retention has deleted the checkpoints of the run.
    """
    snapshot = await snapshots.read_head(connection, run.id, run.last_seq)
    if snapshot is None:
        if await snapshots.is_pruned(connection, run.id):
            raise InvalidState(
                "Retention has deleted the checkpoints of this run. It can be retried only from START.", run.status
            )
        return None
    plan = make_plan(parse(version.spec))
    frontier = restart_unfinished(plan, read_frontier(plan, snapshot.values, snapshot.writes))
    return await _clone(connection, snapshot, plan, frontier) if frontier.joins else None


async def _fork(
    connection: AsyncConnection, context: Context, run: Run, checkpoint: Checkpoint, arguments: ForkArguments
) -> CommandResult:
    own = await versions.get(connection, context.caller, run.version_id)
    target = (
        own
        if arguments.version_id in (None, own.id)
        else await _target(connection, context, run, arguments.version_id or "")
    )
    if target is not own:
        await check_runnable(context, target.spec)
    if target is not own or arguments.patch:
        check_use(context, run.project_id, target.spec, OTHER_OUTPUTS)
        _check_answerers(context, run.project_id, arguments.patch, own.spec, target.spec)
    accepted = await _accept(connection, context, run, target, RunSource.FORK, arguments.options)
    clone = await _forked_head(
        connection, context, accepted.run, checkpoint, (own, target), _checked_patch(arguments.patch)
    )
    message = f"Fork of {run.id} at step {checkpoint.step}"
    return await derive(connection, accepted, message, clone, forked_from=checkpoint.id)


def _check_answerers(context: Context, project_id: str, patch: JSON, *specs: JSON) -> None:
    """Check that the caller may fork versions in a way that replaces answers. Raises Forbidden."""
    if context.caller.may(REPLACE_ANSWERS, project_id):
        return
    if any(map(_names_answerers, specs)):
        raise Forbidden(OTHER_ANSWERS)
    if isinstance(patch, dict) and any(_has_child_runs(spec, patch) for spec in specs):
        raise Forbidden(OTHER_CHILDREN)


def _names_answerers(spec: JSON) -> bool:
    return any(isinstance(node.config, dict) and node.config.get("answerers") for node in parse(spec).nodes)


def _has_child_runs(spec: JSON, node_ids: Container[str]) -> bool:
    """Return whether one of these nodes starts a child run. Items of a map cannot."""
    return any(node.type == SUBWORKFLOW and node.id in node_ids for node in parse(spec).nodes)


async def _target(connection: AsyncConnection, context: Context, run: Run, version_id: str) -> Version:
    """Return another version: of the same workflow, or any of the project if the run is ad hoc."""
    version = await versions.get(connection, context.caller, version_id)
    if version.project_id != run.project_id:
        raise invalid("input.versionId", "OTHER_PROJECT", "belongs to another project than the run")
    if run.workflow_id is not None and version.workflow_id != run.workflow_id:
        raise invalid("input.versionId", "OTHER_WORKFLOW", "belongs to another workflow than the run")
    return version


def _checked_patch(patch: JSON) -> Mapping[str, JSON]:
    if patch is None:
        return {}
    if not isinstance(patch, dict):
        raise invalid("input.patch", "NOT_AN_OBJECT", "must be an object: outputs by node id")
    return patch


async def _forked_head(
    connection: AsyncConnection,
    context: Context,
    new: Run,
    checkpoint: Checkpoint,
    versions_: tuple[Version, Version],
    patch: Mapping[str, JSON],
) -> RunClone | None:
    """Return the head of the fork, or None for a checkpoint before the first node.

    Args:
        connection: The connection of the transaction.
        context: The caller and the node types.
        new: The run that the fork creates.
        checkpoint: The checkpoint to continue from.
        versions_: The version of the forked run, and the version of the new run.
        patch: Outputs by node id that replace those of the checkpoint.

    Raises:
        PatchRefused: With all reasons why the checkpoint does not fit.
    """
    snapshot = await snapshots.read_checkpoint(connection, checkpoint, is_whole=bool(patch))
    if snapshot is None:
        raise NotFound(checkpoint.id, EXPIRED_CHECKPOINT)
    before, spec = (parse(version.spec) for version in versions_)
    old_plan, plan = make_plan(before), make_plan(spec)
    frontier = _migrated(snapshot, old_plan, plan, patch, check_inputs(new.inputs, versions_[1].spec.get("inputs")))
    if not frontier.joins:
        return None
    bound = bind_nodes(spec, context.node_types) if patch else {}
    is_other = versions_[0].id != versions_[1].id
    return await _clone(connection, snapshot, plan, frontier, patch, bound, new, old_plan if is_other else None)


def _migrated(
    snapshot: HeadSnapshot, old: Plan, new: Plan, patch: Mapping[str, JSON], problems: list[FieldProblem]
) -> Frontier:
    """Return the frontier of a checkpoint, patched and migrated to the plan `new`.

    Raises:
        PatchRefused: With `problems`, and with all reasons why patch or plan do not fit.
    """
    try:
        frontier = restart_unfinished(old, read_frontier(old, snapshot.values))
        if patch:
            frontier = apply_patch(old, frontier, RunHistory(snapshot.changes), patch)
        frontier = migrate_frontier(old, new, frontier, patch)
    except PatchRefused as error:
        raise PatchRefused([*problems, *error.problems]) from error
    if problems:
        raise PatchRefused(problems)
    return frontier


async def _clone(
    connection: AsyncConnection,
    snapshot: HeadSnapshot,
    plan: Plan,
    frontier: Frontier,
    patch: Mapping[str, JSON] | None = None,
    bound: Mapping[str, BoundNode] | None = None,
    new: Run | None = None,
    old_plan: Plan | None = None,
) -> RunClone:
    """Return what the new run copies from the snapshot, with the given frontier.

    With a patch, the outgoing edges of the patched nodes are routed again. This needs the bound
    nodes of the new plan and the new run.
    """
    patch = patch or {}
    leaves: dict[str, PatchedLeave] = {}
    visits = {name: last_visit(record) for name, record in frontier.records.items()}
    all_results = await snapshots.visit_results(connection, snapshot, visits)
    results = {
        name: _with_edges(result, (old_plan or plan).nodes[name])
        if frontier.records[name].status in WITHOUT_OUTPUT
        else result
        for name, result in all_results.items()
        if name not in patch
    }
    indexes = None if old_plan is None else edge_indexes(old_plan, plan)
    for name in visits.keys() - patch.keys():
        frontier.records[name] = with_final_status(frontier.records[name], results.get(name))
    if bound and new is not None:
        used = {name for node_id in patch for name in bound[node_id].names} & results.keys() & frontier.records.keys()
        outputs = await snapshots.read_outputs(connection, snapshot.run_id, [results[name].seq for name in used])
        for name in used:
            frontier.records[name] = replace(frontier.records[name], output=outputs.get(results[name].seq))
        earlier = {
            name: _earlier_edges(result, visits[name], (old_plan or plan).nodes[name], indexes)
            for name, result in all_results.items()
            if name in patch
        }
        frontier = settle_patched(plan, bound, frontier, patch, new.id, new.inputs, leaves, earlier)
    values = channel_values(plan, frontier)
    return RunClone(snapshot, values, find_due(plan, frontier), results, len(plan.nodes), patch, leaves, indexes)


def _with_edges(result: VisitResult, node: PlanNode) -> VisitResult:
    """Return a result that names its taken edges, for a node that has no output in its present round.

    Without an output, they do not follow from the port and the number of visits.
    """
    edges = tuple(edge_visits(node.out, result.state, node.spec.on_error).values())
    return replace(result, state=replace(result.state, edges=edges))


def _earlier_edges(
    result: VisitResult, visit: int, node: PlanNode, indexes: Mapping[int, int] | None
) -> list[EdgeVisits]:
    """Return the edges that a node had taken before a visit, with the indexes of the new plan."""
    edges_of = edges_before if result.visit == visit else edge_visits
    edges = edges_of(node.out, result.state, node.spec.on_error).values()
    if indexes is None:
        return list(edges)
    return [one._replace(edge=indexes[one.edge]) for one in edges if one.edge in indexes]


async def _accept(
    connection: AsyncConnection,
    context: Context,
    run: Run,
    version: Version,
    source: RunSource,
    options: RunOptions | None,
) -> CommandResult:
    """Accept a run of `version` with the inputs of `run`, and its options if `options` is None.

    The inputs get the defaults of another version; what is wrong with them is reported later.
    """
    inputs = (await with_values(connection, run)).inputs
    if version.id != run.version_id:
        inputs, _ = complete_inputs(inputs, version.spec.get("inputs"))
    if options is None:
        # A fork tries something out, so it continues the conversation only if the caller says so.
        thread = None if source is RunSource.FORK else run.options.thread
        known = {node.id for node in parse(version.spec).nodes}
        options = replace(
            run.options,
            breakpoints=tuple(node_id for node_id in run.options.breakpoints if node_id in known),
            thread=thread,
        )
    if options.tags is None:
        options = replace(options, tags=run.options.tags)
    check_options(options, version.spec)
    new = replace(admission.new_run(version, inputs), source=source, options=options)
    await context.queue_limit.admit(context.database.pool, new.project_id)
    return await admission.accept(connection, context.caller, new, context.database.deadlines)


async def _checkpoint(context: Context, checkpoint_id: str) -> Checkpoint:
    async with context.read() as connection:
        by_id = await history.checkpoints_by_id(connection, context.caller, [checkpoint_id])
    if checkpoint_id not in by_id:
        raise NotFound(checkpoint_id, EXPIRED_CHECKPOINT)
    return by_id[checkpoint_id]


def _repeatable(arguments: RetryArguments | ForkArguments) -> JSON:
    """Return the arguments that a repeat with the same key must have."""
    return idempotency_arguments(arguments, "idempotency_key")
