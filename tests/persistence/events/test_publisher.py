"""How long the streams of runs stay in Redis."""

from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from engine.events import Event, StatusChange
from engine.states import RunStatus
from persistence.events.publisher import ENDED_TTL_S, STREAM_TTL_S, publish_transitions, stream_of
from persistence.events.run_transition import RunTransition


@pytest.mark.parametrize("status", RunStatus)
async def test_the_stream_of_a_run_expires_soon_after_its_end_only(redis: Redis, status: RunStatus) -> None:
    change = StatusChange(status, RunStatus.RUNNING, "")
    event = Event("run_1", 7, datetime.now(UTC), change)
    await publish_transitions(redis, [RunTransition.of("prj_1", "run_1", change, (event,))])
    limit = ENDED_TTL_S if status.is_terminal else STREAM_TTL_S
    assert limit - 10 <= await redis.ttl(stream_of("run_1")) <= limit
