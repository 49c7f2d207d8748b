"""Evaluates alert rules that are due. Used by the workers.

One transaction claims a rule with SKIP LOCKED, reads its value and writes its state. A crash leaves
it due, and another worker evaluates it. The message of a change of state is in that transaction. A
rule that cannot be evaluated keeps its state and is due again later, so that it holds up no other.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from engine.states import AlertMetric, AlertState, RunStatus
from persistence.alerts.rule import AlertRule, rule_of
from persistence.db.transient import is_transient
from persistence.statistics.alert_sums import RunChoice, counts_of_rule, part_of, prune
from persistence.statistics.counts import COST, DURATION, NANO, STATUS, Counts, histogram_of, percentile

INTERVAL_S = 15.0
"""How often a rule is evaluated."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one evaluation."""

    rule: AlertRule
    """The rule as it was."""
    value: float | None
    state: AlertState
    crossed_at: datetime | None
    error: Exception | None = None
    """Why the rule could not be evaluated."""

    @property
    def has_changed(self) -> bool:
        return self.state is not self.rule.state


async def evaluate_next(pool: asyncpg.Pool) -> Evaluation | None:
    """Claim a rule that is due and evaluate it. Return None if none is due that no other process has."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(_CLAIM)
        if row is None:
            return None
        rule, now = rule_of(dict(row)), row["now"]
        try:
            async with connection.transaction():  # A savepoint: the transaction survives its failure.
                value = await _value(connection, rule, now)
        except Exception as error:
            if is_transient(error):
                raise
            await connection.execute(_POSTPONE, rule.id, INTERVAL_S)
            return Evaluation(rule, rule.value, rule.state, rule.crossed_at, error)
        state, crossed_at = next_state(rule, value, now)
        await connection.execute(_WRITE, rule.id, value, state, crossed_at, INTERVAL_S)
        return Evaluation(rule, value, state, crossed_at)


def next_state(rule: AlertRule, value: float | None, now: datetime) -> tuple[AlertState, datetime | None]:
    """Return the state after an evaluation, and since when the value is beyond the threshold that ends it.

    The state changes after the value was beyond the threshold in all evaluations of `for_s` seconds.
    The thresholds of the two changes may differ, so that a value between them changes nothing.
    """
    leaves = _resolves(rule, value) if rule.state is AlertState.FIRING else _fires(rule, value)
    if not leaves:
        return rule.state, None
    crossed_at = rule.crossed_at or now
    if now - crossed_at < timedelta(seconds=rule.for_s):
        return rule.state, crossed_at
    return (AlertState.OK if rule.state is AlertState.FIRING else AlertState.FIRING), None


def _fires(rule: AlertRule, value: float | None) -> bool:
    if value is None:
        return False
    return value <= rule.threshold if rule.metric is AlertMetric.NO_RUNS else value > rule.threshold


def _resolves(rule: AlertRule, value: float | None) -> bool:
    if value is None:
        return True
    if rule.metric is AlertMetric.NO_RUNS:
        return value > rule.resolve_threshold
    return value <= rule.resolve_threshold


async def _value(connection: Any, rule: AlertRule, now: datetime) -> float | None:
    if rule.metric is AlertMetric.QUEUE_AGE:
        return float(await connection.fetchval(_QUEUE_AGE, rule.project_id, rule.workflow_ids, rule.tags))
    window = timedelta(seconds=rule.window_s)
    since = part_of(now - window, rule.window_s)
    choice = RunChoice(rule.id, rule.project_id, rule.workflow_ids, rule.tags, rule.window_s, rule.counting_since)
    counts = await counts_of_rule(connection, choice, since)
    await prune(connection, rule.id, since)
    return value_of_counts(rule, counts, is_whole=rule.counting_since + window <= now)


def value_of_counts(rule: AlertRule, counts: Counts, *, is_whole: bool) -> float | None:
    """Return the value of a rule; None if too few runs have ended.

    `is_whole`: the rule has counted for its whole window.
    """
    completed, failed = (counts[STATUS + status] for status in (RunStatus.COMPLETED, RunStatus.FAILED))
    ended = sum(count for key, count in counts.items() if key.startswith(STATUS))
    match rule.metric:
        case AlertMetric.FAILURE_RATE:
            decided = completed + failed
            return failed / decided if decided >= rule.min_runs else None
        case AlertMetric.LATENCY_P95:
            return percentile(histogram_of(counts, DURATION), 0.95) if ended >= rule.min_runs else None
        case AlertMetric.COST:
            return counts[COST] / NANO
        case _:
            return float(ended) if ended or is_whole else None


_CLAIM = """
SELECT *, now() AS now FROM alert_rules WHERE enabled AND evaluate_at <= now()
ORDER BY evaluate_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""
_WRITE = """
UPDATE alert_rules SET value = $2, state = $3, crossed_at = $4, evaluated_at = now(),
    evaluate_at = now() + make_interval(secs => $5),
    state_since = CASE WHEN state = $3 THEN state_since ELSE now() END
WHERE id = $1
"""
_POSTPONE = "UPDATE alert_rules SET evaluate_at = now() + make_interval(secs => $2) WHERE id = $1"
_QUEUE_AGE = """
SELECT coalesce(extract(epoch FROM now() - min(queued_at)), 0) FROM runs
WHERE status = 'QUEUED' AND project_id = $1 AND $3::text[] <@ tags
    AND CASE WHEN $2::text[] = '{}' THEN parent_id IS NULL ELSE workflow_id = ANY($2) END
"""
