"""Validate the name, the kind, the config and the inputs of a trigger, and compute its first planned time."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.errors import NODE_CODES, RUN_CODES, NotStorable
from engine.expressions import evaluator
from engine.near_names import did_you_mean
from engine.problems import FieldProblem, join_path
from engine.sdk.trigger import TriggerKind
from engine.states import Severity
from engine.triggers.planning import first_plan
from engine.triggers.registry import installed_trigger_kinds, read_config
from engine.triggers.run_finished import RunFinishedKind
from engine.types import JSON
from engine.values.storable import check_storable
from persistence.caller import Caller
from persistence.problems import Invalid, invalid
from persistence.triggers import trigger as triggers
from persistence.triggers.trigger import Trigger
from persistence.workflows import workflows
from persistence.workflows.versions import get_published
from resolvers.checks import checked_name
from resolvers.context import Context

ResultT = TypeVar("ResultT")
MAX_JSON = 64 * 1024
"""Bytes of the config, of the inputs and of the payload of a trigger."""
ABSENT: Any = object()
"""Stands for a JSON argument that the client has not sent. `null` is a value."""


async def first_times(
    connection: AsyncConnection, kind: TriggerKind[Any], config: Any, trigger_id: str
) -> tuple[datetime | None, datetime | None]:
    """Return the first planned time, and when the trigger fires for it. Raises Invalid if there is none."""
    try:
        plan = first_plan(kind, config, trigger_id, await triggers.database_time(connection))
    except ValueError as error:
        raise invalid("input.config", "CONFIG", str(error)) from error
    if kind.is_scheduled and plan.planned_at is None:
        raise invalid("input.config", "NEVER_FIRES", "has no planned time in the future: it would never fire")
    return plan.planned_at, plan.fire_at


def checked_kind(kind: str, config: JSON, mapping: JSON) -> tuple[TriggerKind[Any], Any]:
    """Return the kind and the parsed config. Raises Invalid with all problems."""
    kinds = installed_trigger_kinds()
    if (chosen := kinds.get(kind)) is None:
        message = f"there is no trigger kind {kind!r}; this host has {', '.join(sorted(kinds))}"
        raise invalid("input.kind", "UNKNOWN", message)
    problems = [*json_problems("input.config", config), *json_problems("input.inputs", mapping)]
    if problems:
        raise Invalid(problems)
    parsed, problems = read_config(chosen, config)
    problems = [FieldProblem(f"input.{one.field}", one.code, one.message) for one in problems]
    problems += _template_problems(mapping, "input.inputs")
    if parsed is None or problems:
        raise Invalid(problems)
    return chosen, parsed


def checked_all(name: str, kind: str, config: JSON, mapping: JSON) -> tuple[str, TriggerKind[Any], Any]:
    """Return the name, the kind and the parsed config. Raises Invalid with all problems of all three."""
    problems: list[FieldProblem] = []
    title = caught(problems, checked_name, "input.name", name)
    found = caught(problems, checked_kind, kind, config, mapping)
    if title is None or found is None:
        raise Invalid(problems)
    return title, *found


def caught(problems: list[FieldProblem], check: Callable[..., ResultT], *arguments: Any) -> ResultT | None:
    """Call a check, and add its problems to a list. None if it has found any."""
    try:
        return check(*arguments)
    except Invalid as error:
        problems += error.errors
        return None


async def warnings_of(context: Context, trigger: Trigger) -> list[FieldProblem]:
    """Return why a trigger will start no run, or not for what it names, although it is valid."""
    codes = [*_code_warnings(trigger.config)] if trigger.kind == RunFinishedKind.name else []
    return codes + (await _publication_warnings(context, trigger) if trigger.enabled else [])


def _code_warnings(config: JSON) -> Iterator[FieldProblem]:
    """Find the codes that look like a known one. Other codes may be those of a `fail` node or a package."""
    known = NODE_CODES | RUN_CODES
    codes = config.get("codes", []) if isinstance(config, dict) else []
    for index, code in enumerate(codes if isinstance(codes, list) else []):
        if code not in known and (hint := did_you_mean(str(code), known)):
            message = f"no run ends with the code {str(code)[:64]!r}, unless a `fail` node has it{hint}"
            yield FieldProblem(f"input.config.codes[{index}]", "UNKNOWN_CODE", message, Severity.WARNING)


async def _publication_warnings(context: Context, trigger: Trigger) -> list[FieldProblem]:
    async with context.read() as connection:
        published = await get_published(connection, context.caller, [trigger.workflow_id])
    if trigger.workflow_id in published:
        return []
    message = "the workflow has no published version, so the trigger starts no run: publish one"
    return [FieldProblem("input.workflowId", "NOT_PUBLISHED", message, Severity.WARNING)]


async def check_workflow(connection: AsyncConnection, caller: Caller, config: Any, project_id: str) -> None:
    """Check that the workflow that a config names is one of the project. Raises Invalid."""
    workflow_id = getattr(config, "workflowId", None)
    if workflow_id is None:
        return
    workflow = (await workflows.get_many(connection, caller, [workflow_id])).get(workflow_id)
    if workflow is None or workflow.project_id != project_id:
        raise invalid("input.config.workflowId", "UNKNOWN", f"the project has no workflow {workflow_id!r}")


def json_problems(path: str, value: JSON) -> Iterator[FieldProblem]:
    try:
        check_storable(value)
    except NotStorable as error:
        yield FieldProblem(path + error.path, "NOT_STORABLE", str(error))
        return
    size = len(orjson.dumps(value))
    if size > MAX_JSON:
        yield FieldProblem(path, "TOO_LARGE", f"has {size:,} bytes of JSON, over the limit of {MAX_JSON:,}")


def _template_problems(value: JSON, path: str) -> Iterator[FieldProblem]:
    """Find the problems of the templates in the inputs: their syntax, and names other than `event`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _template_problems(inner, join_path(path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _template_problems(inner, join_path(path, index))
    elif isinstance(value, str):
        found = evaluator.check(value)
        for message, line, column in found:
            yield FieldProblem(path, "TEMPLATE", message, line=line, column=column)
        unknown = sorted(evaluator.template_names(value) - {"event"}) if not found else []
        if unknown:
            message = f"there is no name `{unknown[0]}` here: the templates of a trigger see `event` only"
            yield FieldProblem(path, "UNKNOWN_NAME", message)
