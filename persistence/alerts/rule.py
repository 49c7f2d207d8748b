"""Alert rules as rows: create, change, delete and list. Used by the mutations of rules.

Each change is part of its caller's transaction, which has locked the row. An evaluation has the same
lock, so it comes before the change or after it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, case, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import AlertMetric, AlertState
from persistence.caller import Caller
from persistence.db.ids import Prefix, new_id
from persistence.db.tables import alert_rules, alert_sums
from persistence.problems import Limit, NotFound

MAX_RULES = 50
"""Most rules of one project. Each ended run is compared with all of them."""
_CHOICE = frozenset({"workflow_ids", "tags", "window_s", "enabled"})
"""Columns that decide what is counted. A change of them begins the counters anew."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One row of `alert_rules`."""

    id: str
    project_id: str
    name: str
    metric: AlertMetric
    threshold: float
    resolve_threshold: float
    window_s: int
    for_s: int
    min_runs: int
    workflow_ids: list[str]
    tags: list[str]
    enabled: bool
    state: AlertState
    value: float | None
    state_since: datetime
    crossed_at: datetime | None
    counting_since: datetime
    evaluated_at: datetime | None
    created_by: str
    created_at: datetime
    updated_at: datetime


COLUMNS = [alert_rules.c[name] for name in AlertRule.__slots__]


def rule_of(row: Mapping[Any, Any]) -> AlertRule:
    """Return the rule of a row."""
    values = {name: row[name] for name in AlertRule.__slots__}
    return AlertRule(**{**values, "metric": AlertMetric(row["metric"]), "state": AlertState(row["state"])})


def _visible(caller: Caller) -> Select[Any]:
    return select(*COLUMNS).where(alert_rules.c.project_id.in_(caller.projects))


async def create(connection: AsyncConnection, caller: Caller, project_id: str, values: Mapping[str, Any]) -> AlertRule:
    """Insert a rule. The caller has checked the role and the values.

    Raises:
        Limit: The project has MAX_RULES rules.
    """
    count = await connection.scalar(
        select(func.count()).select_from(alert_rules).where(alert_rules.c.project_id == project_id)
    )
    if (count or 0) >= MAX_RULES:
        raise Limit(f"The project has {count} alert rules; the limit is {MAX_RULES}.")
    new = {"id": new_id(Prefix.ALERT_RULE), "project_id": project_id, "created_by": caller.subject, **values}
    row = await connection.execute(insert(alert_rules).values(new).returning(*COLUMNS))
    return rule_of(row.mappings().one())


async def get(connection: AsyncConnection, caller: Caller, rule_id: str, *, lock: bool = False) -> AlertRule:
    """Read a rule, and lock it against other changes with `lock`. Raises NotFound."""
    query = _visible(caller).where(alert_rules.c.id == rule_id)
    query = query.with_for_update(key_share=True) if lock else query
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(rule_id)
    return rule_of(row)


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, AlertRule]:
    """Read the rules that the caller may see, by id."""
    rows = await connection.execute(_visible(caller).where(alert_rules.c.id.in_(ids)))
    return {row["id"]: rule_of(row) for row in rows.mappings()}


async def of_projects(connection: AsyncConnection, caller: Caller, projects: Collection[str]) -> list[AlertRule]:
    """List the rules of those projects that the caller may see, newest first."""
    query = _visible(caller).where(alert_rules.c.project_id.in_(sorted(projects))).order_by(alert_rules.c.id.desc())
    return [rule_of(row) for row in (await connection.execute(query)).mappings()]


async def change(connection: AsyncConnection, rule: AlertRule, values: Mapping[str, Any]) -> AlertRule:
    """Set the columns in `values` of a rule that this transaction has locked, and evaluate it soon.

    A rule that is disabled becomes OK.
    """
    changed: dict[str, Any] = {**values, "evaluate_at": func.now(), "updated_at": func.clock_timestamp()}
    if any(getattr(rule, name) != values[name] for name in _CHOICE & values.keys()):
        await connection.execute(delete(alert_sums).where(alert_sums.c.rule_id == rule.id))
        changed |= {"counting_since": func.now(), "value": None, "crossed_at": None}
    if values.get("enabled") is False:
        changed |= _resolved()
    statement = update(alert_rules).where(alert_rules.c.id == rule.id).values(changed).returning(*COLUMNS)
    return rule_of((await connection.execute(statement)).mappings().one())


async def remove(connection: AsyncConnection, rule_id: str) -> None:
    """Delete a rule that this transaction has locked. One that fires becomes OK first, which is reported."""
    await connection.execute(update(alert_rules).where(alert_rules.c.id == rule_id).values(_resolved()))
    await connection.execute(delete(alert_rules).where(alert_rules.c.id == rule_id))


def _resolved() -> dict[str, Any]:
    is_firing = alert_rules.c.state == AlertState.FIRING
    since = case((is_firing, func.now()), else_=alert_rules.c.state_since)
    return {"state": AlertState.OK, "value": None, "crossed_at": None, "state_since": since}
