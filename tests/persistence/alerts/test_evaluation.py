"""Alert rules: the table of their states, their values, and the messages of their changes."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.states import AlertMetric, AlertState
from persistence.alerts import evaluation
from persistence.alerts import rule as alert_rules
from persistence.alerts.evaluation import evaluate_next, next_state
from persistence.alerts.rule import AlertRule
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.statistics.alert_sums import part_of
from persistence.statistics.folding import fold
from tests.journal_worker import accept_run
from tests.persistence.alerts.stored_rules import end_run, make_due, new_rule
from tests.persistence.notifications.stored_endpoints import delivery_rows, new_endpoint
from tests.persistence.triggers.stored_triggers import published_workflow

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
OK, FIRING = AlertState.OK, AlertState.FIRING
RULE = AlertRule(
    *("alr_1", "prj_1", "n", AlertMetric.COST, 10.0, 5.0, 300, 60, 1, [], [], True, OK, None),
    *(NOW, None, NOW, None, "me", NOW, NOW),
)
LONG, SHORT = NOW - timedelta(seconds=60), NOW - timedelta(seconds=59)


@pytest.mark.parametrize(
    ("state", "crossed_at", "value", "expected"),
    [
        (OK, None, 10.0, (OK, None)),
        (OK, None, 10.1, (OK, NOW)),
        (OK, SHORT, 10.1, (OK, SHORT)),
        (OK, LONG, 10.1, (FIRING, None)),
        (OK, LONG, 9.0, (OK, None)),
        (OK, LONG, None, (OK, None)),
        (FIRING, None, 9.0, (FIRING, None)),
        (FIRING, None, 5.0, (FIRING, NOW)),
        (FIRING, SHORT, 5.0, (FIRING, SHORT)),
        (FIRING, LONG, 5.0, (OK, None)),
        (FIRING, LONG, None, (OK, None)),
        (FIRING, LONG, 5.1, (FIRING, None)),
    ],
)
def test_a_rule_changes_its_state_after_a_value_was_beyond_the_threshold_long_enough(
    state: AlertState, crossed_at: datetime | None, value: float | None, expected: Any
) -> None:
    assert next_state(replace(RULE, state=state, crossed_at=crossed_at), value, NOW) == expected


@pytest.mark.parametrize(
    ("state", "runs", "after"), [(OK, 0, FIRING), (OK, 1, OK), (FIRING, 0, FIRING), (FIRING, 1, OK)]
)
def test_a_rule_for_no_runs_fires_at_none(state: AlertState, runs: float, after: AlertState) -> None:
    rule = replace(RULE, metric=AlertMetric.NO_RUNS, threshold=0.0, resolve_threshold=0.0, for_s=0, state=state)
    assert next_state(rule, runs, NOW)[0] is after


@pytest.mark.parametrize("is_folded", [False, True])
async def test_values_equal_a_recount_of_the_runs_that_a_rule_chooses(
    database: Database, caller: Caller, project: str, is_folded: bool
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    chosen = {"workflow_ids": [workflow_id], "tags": ["a"], "counting_since": datetime(2020, 1, 1, tzinfo=UTC)}
    metrics = {
        AlertMetric.FAILURE_RATE: 0.25,
        AlertMetric.LATENCY_P95: 4000.0,
        AlertMetric.COST: 0.75,
        AlertMetric.NO_RUNS: 5,
    }
    for metric in metrics:
        await new_rule(database, caller, project, metric=metric, **chosen)
    everything = await new_rule(database, caller, project)
    mine: dict[str, Any] = {"workflow_id": workflow_id, "tags": ["a", "b"]}
    for status, seconds in (("COMPLETED", 1), ("COMPLETED", 2), ("COMPLETED", 3), ("FAILED", 4), ("CANCELLED", 1)):
        await end_run(database, caller, project, status, seconds=seconds, cost_usd=0.15, **mine)
    parent = await end_run(database, caller, project, "FAILED", workflow_id=workflow_id)
    await end_run(database, caller, project, "FAILED", tags=["a"], cost_usd=3.0, parent_id=parent, parent_key="k")
    await end_run(database, caller, project, "FAILED", ago=timedelta(minutes=7), seconds=500, **mine)
    if is_folded:
        assert await fold(database.pool, 3) == 3
        while await fold(database.pool):
            pass
        assert await database.pool.fetchval("SELECT count(*) FROM run_ends") == 0
    found = {}
    while (result := await evaluate_next(database.pool)) is not None:
        found[result.rule.id if result.rule.id == everything.id else result.rule.metric] = result.value
    # Of all runs, five of the six that are no child runs and ended in time are decided.
    assert found.pop(everything.id) == pytest.approx(2 / 5)
    assert found == {metric: pytest.approx(value, rel=0.02) for metric, value in metrics.items()}


async def test_a_rule_that_cannot_be_evaluated_holds_up_no_other(
    database: Database, caller: Caller, project: str
) -> None:
    broken, sound = [await new_rule(database, caller, project, name=name) for name in ("Broken", "Sound")]
    await end_run(database, caller, project, "FAILED")
    while await fold(database.pool):
        pass
    await database.pool.execute("UPDATE alert_sums SET counts = '[1]' WHERE rule_id = $1", broken.id)
    await database.pool.execute("UPDATE alert_rules SET evaluate_at = now() - interval '1 h' WHERE id = $1", broken.id)
    results = [await evaluate_next(database.pool) for _ in range(3)]
    assert [one and (one.rule.id, one.state, one.error is None) for one in results] == [
        (broken.id, OK, False),
        (sound.id, FIRING, True),
        None,
    ]
    await make_due(database)
    assert await evaluate_next(database.pool) is not None


async def test_a_change_of_state_and_its_message_are_one_transaction_of_one_worker(
    database: Database, caller: Caller, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = await new_rule(database, caller, project, name="Failures", tags=["a"])
    await new_endpoint(database, caller, project, events=["RUN_FAILED"])
    await new_endpoint(database, caller, project, events=["ALERT"], tags=["b"])
    await new_endpoint(database, caller, project, events=["ALERT"], workflow_ids=["wf_other"])
    mine = await new_endpoint(database, caller, project, events=["ALERT"], tags=["a"])
    await end_run(database, caller, project, "FAILED", tags=["a"])

    with monkeypatch.context() as patch, pytest.raises(ConnectionResetError):
        patch.setattr(evaluation, "Evaluation", _crash)  # After the write, before the commit.
        await evaluate_next(database.pool)
    alerts = "event, endpoint_id, subject_id, payload"
    assert [row for row in await delivery_rows(database, alerts) if row["event"] == "ALERT"] == []
    results = await asyncio.gather(*(evaluate_next(database.pool) for _ in range(4)))
    assert [one.state for one in results if one is not None] == [FIRING]
    await make_due(database)
    assert not (await evaluate_next(database.pool)).has_changed  # type: ignore[union-attr]
    [row] = [row for row in await delivery_rows(database, alerts) if row["event"] == "ALERT"]
    assert (row["endpoint_id"], row["subject_id"], row["payload"]["type"]) == (mine.id, rule.id, "alert.firing")
    data = row["payload"]["data"]
    assert (data["name"], data["metric"], data["value"], data["threshold"]) == ("Failures", "FAILURE_RATE", 1.0, 0.5)
    for _ in range(3):
        await end_run(database, caller, project, tags=["a"])
    await make_due(database)
    resolved = await evaluate_next(database.pool)
    assert resolved is not None and (resolved.state, resolved.value) == (OK, 0.25)
    kinds = [row["payload"]["type"] for row in await delivery_rows(database, alerts) if row["event"] == "ALERT"]
    assert kinds == ["alert.firing", "alert.resolved"]


def _crash(*_: Any) -> None:
    raise ConnectionResetError("crashed")


@pytest.mark.parametrize("ends_by", ["disabling", "deleting"])
async def test_a_rule_that_fires_is_resolved_when_it_is_disabled_or_deleted(
    database: Database, caller: Caller, project: str, ends_by: str
) -> None:
    rule = await new_rule(database, caller, project)
    await new_endpoint(database, caller, project, events=["ALERT"])
    await end_run(database, caller, project, "FAILED")
    assert await fold(database.pool) == 1
    await evaluate_next(database.pool)
    async with database.begin() as connection:
        firing = await alert_rules.get(connection, caller, rule.id, lock=True)
        assert firing.state is FIRING
        if ends_by == "deleting":
            await alert_rules.remove(connection, rule.id)
        else:
            disabled = await alert_rules.change(connection, firing, {"enabled": False})
            assert (disabled.state, disabled.value) == (OK, None)
    messages = [row["payload"] for row in await delivery_rows(database, "payload")]
    assert [one["type"] for one in messages] == ["alert.firing", "alert.resolved"]
    assert messages[1]["data"]["value"] is None
    assert await database.pool.fetchval("SELECT count(*) FROM alert_sums") == 0
    assert await evaluate_next(database.pool) is None


async def test_a_rule_for_no_runs_waits_for_its_whole_window(database: Database, caller: Caller, project: str) -> None:
    await new_rule(database, caller, project, metric=AlertMetric.NO_RUNS, threshold=0.0)
    first = await evaluate_next(database.pool)
    assert first is not None and (first.value, first.state) == (None, OK)
    await make_due(database, counting_since="now() - interval '6 minutes'")
    second = await evaluate_next(database.pool)
    assert second is not None and (second.value, second.state) == (0.0, FIRING)


async def test_the_age_of_the_queue_is_that_of_the_oldest_run_that_a_rule_chooses(
    database: Database, caller: Caller, project: str
) -> None:
    await new_rule(database, caller, project, metric=AlertMetric.QUEUE_AGE, threshold=60.0, tags=["a"])
    empty = await evaluate_next(database.pool)
    assert empty is not None and (empty.value, empty.state) == (0.0, OK)
    for seconds, tags in ((100, ["a"]), (10, ["a"]), (1000, ["b"])):
        run = (await accept_run(database, caller, project)).run
        aged = "UPDATE runs SET queued_at = now() - make_interval(secs => $2), tags = $3 WHERE id = $1"
        await database.pool.execute(aged, run.id, seconds, tags)
    await make_due(database)
    full = await evaluate_next(database.pool)
    assert full is not None and full.value == pytest.approx(100, abs=10) and full.state is FIRING


async def test_a_change_of_the_choice_begins_the_counters_anew(
    database: Database, caller: Caller, project: str
) -> None:
    rule = await new_rule(database, caller, project)
    await end_run(database, caller, project, "FAILED")
    await fold(database.pool)
    async with database.begin() as connection:
        same = await alert_rules.change(connection, rule, {"name": "x", "tags": [], "threshold": 0.9})
        assert same.counting_since == rule.counting_since
        changed = await alert_rules.change(connection, same, {"window_s": 600})
        assert changed.counting_since > rule.counting_since
    await end_run(database, caller, project, "COMPLETED")
    result = await evaluate_next(database.pool)
    assert result is not None and result.value == 0.0


def test_a_window_has_at_most_sixty_one_parts() -> None:
    for window_s in (60, 3600, 86_400, 7 * 86_400):
        start = part_of(NOW - timedelta(seconds=window_s), window_s)
        assert timedelta(seconds=window_s) <= NOW - start < timedelta(seconds=window_s + max(60, window_s // 60))
