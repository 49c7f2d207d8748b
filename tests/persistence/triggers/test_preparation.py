"""Firings are prepared side by side: a slow or faulty trigger delays and stops no other."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from engine.sdk.trigger import TriggerConfig, TriggerKind
from engine.triggers.registry import installed_trigger_kinds
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.runs.queue_limit import QueueLimit
from persistence.triggers import pending, preparation
from persistence.triggers.due import BATCH, FAULT, DueTriggers
from persistence.triggers.pending import PendingFiring
from tests.persistence.triggers.stored_triggers import (
    NOON,
    due_triggers,
    events_of,
    fired_in_order,
    new_schedule,
    published_workflow,
)

HEAVY = "{% for i in range(300) %}{{ range(100000) | sum }}{% endfor %}"


@pytest.fixture
async def neighbour(database: Database, caller: Caller) -> tuple[Caller, str]:
    """Another project, and its admin."""
    project = "prj_00000000000000000000000002"
    await database.pool.execute("INSERT INTO projects (id, name) VALUES ($1, 'Neighbour')", project)
    return replace(caller, roles={project: Role.ADMIN}), project


async def test_a_heavy_template_delays_its_own_trigger_only(
    database: Database, caller: Caller, project: str, neighbour: tuple[Caller, str]
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    slow = await new_schedule(database, caller, project, workflow_id, inputs={"value": HEAVY})
    async with database.begin() as connection:
        await pending.add(connection, slow.id, [PendingFiring("by hand", {})])
    quick = await new_schedule(database, *neighbour, await published_workflow(database, *neighbour))
    due = due_triggers(database)
    fired = await fired_in_order(due, 3)
    assert [one.event.trigger_id for one in fired] == [quick.id, slow.id, slow.id]
    assert {key for key, _, _ in await events_of(database, slow.id)} == {"2030-01-01T12:00:00Z", "by hand"}
    assert (await due.fire_batch(NOON)).found == (await due.fire_ready()).found == 0


async def test_a_project_with_many_slow_firings_is_left_out(
    database: Database,
    caller: Caller,
    project: str,
    neighbour: tuple[Caller, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preparation, "MAX_SLOW", 2)
    workflow_id = await published_workflow(database, caller, project)
    for _ in range(3):
        await new_schedule(database, caller, project, workflow_id, inputs={"value": HEAVY})
    due = due_triggers(database)
    assert (await due.fire_batch(NOON)).fired == []
    await new_schedule(database, caller, project, workflow_id)
    quick = await new_schedule(database, *neighbour, await published_workflow(database, *neighbour))
    assert await due.next_due_s(NOON) == 0
    fired = await fired_in_order(due, 5)
    assert fired[0].event.trigger_id == quick.id
    assert await due.next_due_s(NOON) == 60


class FaultyKind(TriggerKind[TriggerConfig]):
    """A kind of a package with a fault."""

    Config = TriggerConfig

    def next_time(self, config: TriggerConfig, after: datetime) -> datetime | None:
        raise KeyError("theirs")


async def test_a_fault_in_a_kind_is_a_failure_of_its_triggers_alone(
    database: Database, caller: Caller, project: str
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    faulty = await new_schedule(database, caller, project, workflow_id, {})
    good = await new_schedule(database, caller, project, workflow_id)
    await database.pool.execute("UPDATE triggers SET kind = 'faulty' WHERE id = $1", faulty.id)
    kinds: dict[str, Any] = {**installed_trigger_kinds(), "faulty": FaultyKind()}
    due = DueTriggers(database, kinds, max_failures=2, queue_limit=QueueLimit(BATCH))
    assert [one.event.trigger_id for one in (await due.fire_batch(NOON)).fired] == [good.id]
    row = await database.pool.fetchrow("SELECT last_error, failures, enabled FROM triggers WHERE id = $1", faulty.id)
    assert tuple(row) == (FAULT, 1, True)


async def test_what_is_being_prepared_at_the_end_of_a_process_stays_due(
    database: Database, caller: Caller, project: str
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    trigger = await new_schedule(database, caller, project, workflow_id, inputs={"value": HEAVY})
    due = due_triggers(database)
    assert (await due.fire_batch(NOON)).fired == []
    due.close()
    other = due_triggers(database)
    [fired] = await fired_in_order(other, 1)
    assert fired.event.trigger_id == trigger.id and (await due.fire_ready()).found == 0
