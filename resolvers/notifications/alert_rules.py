"""Alert rules: editors create, change and delete them; viewers read.

Each change is one transaction, with its entry in the audit log. Workers evaluate the rules.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.problems import FieldProblem
from engine.states import AlertMetric
from persistence.alerts import rule as alert_rules
from persistence.alerts.rule import AlertRule
from persistence.audit_log import record
from persistence.problems import Invalid
from resolvers.authorise import project_for, require
from resolvers.checks import checked_name, tag_problems
from resolvers.context import Context
from resolvers.notifications.checks import workflow_problems
from resolvers.permissions import MUTATIONS, QUERIES

MIN_WINDOW_S, MAX_WINDOW_S = 60, 7 * 86_400
MAX_FOR_S = 86_400
MAX_MIN_RUNS = 1_000_000
_RANGES = {
    "window_s": ("input.windowS", MIN_WINDOW_S, MAX_WINDOW_S),
    "for_s": ("input.forS", 0, MAX_FOR_S),
    "min_runs": ("input.minRuns", 1, MAX_MIN_RUNS),
}
_AUDITED = (
    *("name", "metric", "threshold", "resolve_threshold", "window_s", "for_s", "min_runs"),
    *("workflow_ids", "tags", "enabled"),
)


async def rules_of(context: Context, project_id: str | None) -> list[AlertRule]:
    """List the rules of a project, newest first; None for all projects of the caller. Raises NotFound."""
    if project_id is not None:
        require(context.caller, QUERIES["alertRules"], project_id)
    chosen = context.caller.projects if project_id is None else [project_id]
    async with context.read() as connection:
        return await alert_rules.of_projects(connection, context.caller, chosen)


async def create_rule(context: Context, project_id: str | None, values: Mapping[str, Any]) -> AlertRule:
    """Create a rule; `values` has a value for each of its columns that callers set.

    Raises:
        NotFound, Forbidden: The caller has no role in the project, or a lower one than editor.
        Invalid: With all problems of the values.
        Limit: The project has too many rules.
    """
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, MUTATIONS["createAlertRule"], project_id)
        completed = await _checked(connection, context, chosen, values)
        created = await alert_rules.create(connection, context.caller, chosen, completed)
        await record(
            connection, context.caller, "createAlertRule", chosen, created.id, before=None, after=_audited(created)
        )
    return created


async def update_rule(context: Context, rule_id: str, changes: Mapping[str, Any]) -> AlertRule:
    """Change a rule; `changes` has the columns to change.

    Raises:
        NotFound, Forbidden: It is hidden, or the caller is no editor of its project.
        Invalid: With all problems of the new values.
    """
    async with context.database.begin() as connection:
        before = await alert_rules.get(connection, context.caller, rule_id, lock=True)
        require(context.caller, MUTATIONS["updateAlertRule"], before.project_id)
        if not changes:
            return before
        values = await _checked(connection, context, before.project_id, {**_present(before, changes), **changes})
        after = await alert_rules.change(connection, before, values)
        shown = [_audited(one) for one in (before, after)]
        await record(
            *(connection, context.caller, "updateAlertRule", before.project_id, rule_id),
            before=shown[0],
            after=shown[1],
        )
    await context.notifier.notify_triggers()
    return after


async def delete_rule(context: Context, rule_id: str) -> str:
    """Delete a rule, and return its id. Raises NotFound, Forbidden."""
    async with context.database.begin() as connection:
        rule = await alert_rules.get(connection, context.caller, rule_id, lock=True)
        require(context.caller, MUTATIONS["deleteAlertRule"], rule.project_id)
        await alert_rules.remove(connection, rule_id)
        await record(
            *(connection, context.caller, "deleteAlertRule", rule.project_id, rule_id),
            before=_audited(rule),
            after=None,
        )
    await context.notifier.notify_triggers()
    return rule_id


def _present(rule: AlertRule, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a rule, without thresholds that do not apply after the changes."""
    present = _audited(rule)
    if changes.get("metric", rule.metric) is not rule.metric:
        return present | {"threshold": None, "resolve_threshold": None}
    if rule.threshold == rule.resolve_threshold and "threshold" in changes:
        present["resolve_threshold"] = None
    return present


def _audited(rule: AlertRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in _AUDITED}


async def _checked(
    connection: AsyncConnection, context: Context, project_id: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Check all values of a rule, and complete its thresholds. Raises Invalid with all problems."""
    problems = [*_plain_problems(values)]
    problems += await workflow_problems(connection, context, project_id, values["workflow_ids"])
    if problems:
        raise Invalid(problems)
    values = {**values, "name": values["name"].strip()}
    if values["metric"] is AlertMetric.NO_RUNS:
        return {**values, "threshold": 0.0, "resolve_threshold": 0.0}
    resolve_at = values["threshold"] if values["resolve_threshold"] is None else values["resolve_threshold"]
    return {**values, "resolve_threshold": resolve_at}


def _plain_problems(values: Mapping[str, Any]) -> Iterator[FieldProblem]:
    try:
        checked_name("input.name", values["name"])
    except Invalid as error:
        yield from error.errors
    yield from _threshold_problems(values["metric"], values["threshold"], values["resolve_threshold"])
    for column, (field, least, most) in _RANGES.items():
        if not least <= values[column] <= most:
            yield FieldProblem(field, "OUT_OF_RANGE", f"must be from {least:,} to {most:,}, is {values[column]:,}")
    yield from tag_problems("input.tags", values["tags"])


def _threshold_problems(
    metric: AlertMetric, threshold: float | None, resolve_at: float | None
) -> Iterator[FieldProblem]:
    if metric is AlertMetric.NO_RUNS:
        if threshold or resolve_at:
            yield FieldProblem("input.threshold", "EXCLUSIVE", "NO_RUNS has no threshold: it fires at 0 runs")
        return
    if threshold is None:
        yield FieldProblem("input.threshold", "REQUIRED", f"{metric} needs a threshold")
        return
    most = 1.0 if metric is AlertMetric.FAILURE_RATE else math.inf
    for field, value in (("input.threshold", threshold), ("input.resolveThreshold", resolve_at)):
        if value is not None and not (0 <= value <= most and math.isfinite(value)):
            range_ = "from 0 to 1" if most == 1 else "0 or more"
            yield FieldProblem(field, "OUT_OF_RANGE", f"must be {range_}, is {value}")
    if resolve_at is not None and resolve_at > threshold:
        message = f"must be at most the threshold, {threshold}: a value between the two changes nothing"
        yield FieldProblem("input.resolveThreshold", "OUT_OF_RANGE", message)
