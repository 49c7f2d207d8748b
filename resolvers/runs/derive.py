"""Runs made of runs: a retry from the start or from the failed nodes on, and a fork from any checkpoint.

Each is one transaction that reads what stands for good, and writes a run that is like any other from then on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.fork.frontier import Frontier, apply_writes, channel_values, find_due, read_frontier, restart_unfinished
from engine.fork.history import RunHistory
from engine.fork.migration import migrate_frontier
from engine.fork.patch import PatchRefused, apply_patch, settle_patched
from engine.graph.bound_node import BoundNode, bind_nodes
from engine.graph.plan import Plan, make_plan
from engine.problems import FieldProblem
from engine.spec.model import SpecError
from engine.spec.parser import parse
from engine.states import RetryFrom, RunSource, RunStatus
from engine.types import JSON
from engine.values.json_schema import check_inputs
from persistence.checkpoints import snapshots
from persistence.checkpoints.clone import RunClone, derive, last_visit, with_final_status
from persistence.checkpoints.snapshots import HeadSnapshot
from persistence.events import history
from persistence.events.history import Checkpoint
from persistence.problems import Invalid, InvalidState, NotFound, invalid
from persistence.runs import admission
from persistence.runs.run import CommandResult, Run, RunOptions
from persistence.workflows import versions
from persistence.workflows.versions import Version
from resolvers.checks import check_options
from resolvers.context import Context
from resolvers.idempotent import known_run, run_idempotent
from resolvers.runs.start import own_run
from resolvers.workflows.specs import check_runnable

FROM_FAILED = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class RetryArguments:
    """`options` None: those of the run."""

    run_id: str
    start: RetryFrom = RetryFrom.FAILED
    options: RunOptions | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class ForkArguments:
    """`patch` are outputs by node id; `version_id` None: the run's own."""

    checkpoint_id: str
    patch: JSON = None
    version_id: str | None = None
    options: RunOptions | None = None
    idempotency_key: str | None = None


async def retry_run(context: Context, ask: RetryArguments) -> Run:
    """A new run with the same version and inputs. Raises InvalidState for one that is not over, or has nothing to retry."""
    run = await own_run(context, ask.run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await _retry(connection, context, await known_run(connection, context, ask.run_id), ask)

    return await run_idempotent(context, run.project_id, ask.idempotency_key, "retryRun", _arguments(ask), act)


async def fork_run(context: Context, ask: ForkArguments) -> Run:
    """A new run that goes on from a checkpoint. Raises Invalid with all that does not fit."""
    checkpoint = await _checkpoint(context, ask.checkpoint_id)
    run = await own_run(context, checkpoint.run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        try:
            return await _fork(connection, context, run, checkpoint, ask)
        except (PatchRefused, SpecError) as refused:
            raise Invalid(refused.problems) from refused

    return await run_idempotent(context, run.project_id, ask.idempotency_key, "forkRun", _arguments(ask), act)


async def _retry(connection: AsyncConnection, context: Context, run: Run, ask: RetryArguments) -> CommandResult:
    if not run.status.is_terminal:
        raise InvalidState(f"Only a run that is over can be retried; this one is {run.status}.", run.status)
    if ask.start is RetryFrom.FAILED and run.status not in FROM_FAILED:
        message = f"The run is {run.status}: no node of it failed. It can be retried from START."
        raise InvalidState(message, run.status)
    version = await versions.get(connection, context.caller, run.version_id)
    accepted = await _accept(connection, context, run, version, RunSource.RETRY, ask.options)
    copy = await _failed_head(connection, run, version) if ask.start is RetryFrom.FAILED else None
    message = f"Retry of {run.id} from {'the start' if copy is None else 'its failed nodes'}"
    return await derive(connection, accepted, message, copy, retry_of=run.id)


async def _failed_head(connection: AsyncConnection, run: Run, version: Version) -> RunClone | None:
    """None where nothing has happened that could be gone on from."""
    stand = await snapshots.read_head(connection, run.id, run.last_seq)
    if stand is None:
        if await snapshots.is_pruned(connection, run.id):
            raise InvalidState("What this run did is past retention. It can be retried from START.", run.status)
        return None
    plan = make_plan(parse(version.spec))
    frontier = restart_unfinished(plan, read_frontier(plan, apply_writes(plan, stand.values, stand.writes)))
    return await _copied(connection, stand, plan, frontier) if frontier.joins else None


async def _fork(
    connection: AsyncConnection, context: Context, run: Run, checkpoint: Checkpoint, ask: ForkArguments
) -> CommandResult:
    own = await versions.get(connection, context.caller, run.version_id)
    target = own if ask.version_id in (None, own.id) else await _target(connection, context, run, ask.version_id or "")
    if target is not own:
        check_runnable(context, target.spec)
    accepted = await _accept(connection, context, run, target, RunSource.FORK, ask.options)
    copy = await _forked_head(connection, context, accepted.run, checkpoint, (own, target), _patch(ask.patch))
    message = f"Fork of {run.id} at step {checkpoint.step}"
    return await derive(connection, accepted, message, copy, forked_from=checkpoint.id)


async def _target(connection: AsyncConnection, context: Context, run: Run, version_id: str) -> Version:
    """Another version: of the same workflow, or for an ad hoc run any of its project."""
    version = await versions.get(connection, context.caller, version_id)
    if version.project_id != run.project_id:
        raise invalid("input.versionId", "OTHER_PROJECT", "belongs to another project than the run")
    if run.workflow_id is not None and version.workflow_id != run.workflow_id:
        raise invalid("input.versionId", "OTHER_WORKFLOW", "belongs to another workflow than the run")
    return version


def _patch(given: JSON) -> Mapping[str, JSON]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise invalid("input.patch", "NOT_AN_OBJECT", "must be an object: outputs by node id")
    return given


async def _forked_head(
    connection: AsyncConnection,
    context: Context,
    new: Run,
    checkpoint: Checkpoint,
    versions_: tuple[Version, Version],
    patch: Mapping[str, JSON],
) -> RunClone | None:
    """None at a checkpoint that comes before everything. Raises Refused."""
    stand = await snapshots.read_checkpoint(connection, checkpoint.run_id, checkpoint.seq, is_whole=bool(patch))
    if stand is None:
        raise NotFound(checkpoint.id)
    before, spec = (parse(version.spec) for version in versions_)
    plan = make_plan(spec)
    frontier = _moved(stand, make_plan(before), plan, patch, check_inputs(new.inputs, versions_[1].spec.get("inputs")))
    if not frontier.joins:
        return None
    works = bind_nodes(spec, context.node_types) if patch else {}
    return await _copied(connection, stand, plan, frontier, patch, works, new)


def _moved(
    stand: HeadSnapshot, old: Plan, new: Plan, patch: Mapping[str, JSON], problems: list[FieldProblem]
) -> Frontier:
    """The frontier of a checkpoint, patched and carried over to the plan `new`. Raises Refused, with `problems` as well."""
    try:
        frontier = restart_unfinished(old, read_frontier(old, stand.values))
        if patch:
            frontier = apply_patch(old, frontier, RunHistory(stand.changes), patch)
        frontier = migrate_frontier(old, new, frontier, patch)
    except PatchRefused as refused:
        raise PatchRefused([*problems, *refused.problems]) from refused
    if problems:
        raise PatchRefused(problems)
    return frontier


async def _copied(
    connection: AsyncConnection,
    stand: HeadSnapshot,
    plan: Plan,
    frontier: Frontier,
    patch: Mapping[str, JSON] | None = None,
    works: Mapping[str, BoundNode] | None = None,
    new: Run | None = None,
) -> RunClone:
    """The copy of a frontier, the edges of patched nodes settled."""
    patch = patch or {}
    visits = {name: last_visit(slot) for name, slot in frontier.records.items() if name not in patch}
    kept = await snapshots.visit_results(connection, stand, visits)
    for name in visits:
        frontier.records[name] = with_final_status(frontier.records[name], kept.get(name))
    if works and new is not None:
        asked = {name for node_id in patch for name in works[node_id].names} & kept.keys() & frontier.records.keys()
        found = await snapshots.read_outputs(connection, stand.run_id, [kept[name].seq for name in asked])
        for name in asked:
            frontier.records[name] = replace(frontier.records[name], output=found.get(kept[name].seq))
        frontier = settle_patched(plan, works, frontier, patch, new.id, new.inputs)
    values = channel_values(plan, frontier)
    return RunClone(stand, values, find_due(plan, values), kept, len(plan.nodes), patch)


async def _accept(
    connection: AsyncConnection,
    context: Context,
    run: Run,
    version: Version,
    source: RunSource,
    options: RunOptions | None,
) -> CommandResult:
    """A run of `version` with the inputs of `run`, and its options where no other are given."""
    if options is None:
        known = {node.id for node in parse(version.spec).nodes}
        options = replace(run.options, breakpoints=tuple(one for one in run.options.breakpoints if one in known))
    check_options(options, version.spec)
    new = replace(admission.new_run(version, run.inputs), source=source, options=options)
    return await admission.accept(connection, context.caller, new, context.database.deadlines)


async def _checkpoint(context: Context, checkpoint_id: str) -> Checkpoint:
    async with context.database.connect() as connection:
        found = await history.checkpoints_by_id(connection, context.caller, [checkpoint_id])
    if checkpoint_id not in found:
        raise NotFound(checkpoint_id)
    return found[checkpoint_id]


def _arguments(ask: RetryArguments | ForkArguments) -> JSON:
    arguments = asdict(ask)
    del arguments["idempotency_key"]
    return arguments
