"""A short form of `make hostile`: every attack is refused, and others are served during it."""

from collections.abc import AsyncIterator

import pytest

from tests.end_to_end.support.system import copy_database
from tests.hostile.clients import send_large_bodies, send_large_headers, send_no_http
from tests.hostile.peers import PATHS, answer_falsely
from tests.hostile.run import AttackedInstance, Outcome, summary, target
from tests.peers.http import Peer

MOST_S = 15.0
"""The longest wait of a probe on a slow machine that runs other tests as well. The attacks run in the
process that measures, so their own work is part of it."""


@pytest.fixture(scope="module")
async def instance(template: str, embedded: tuple[str, str]) -> AsyncIterator[AttackedInstance]:
    database_url = await copy_database(template, "hostile")
    async with target(database_url, embedded[1].replace("db=0", "db=4"), log_level="error") as one:
        yield one


def check(outcome: Outcome) -> None:
    assert max(outcome.waits.values()) < MOST_S, outcome


async def test_false_answers_of_a_peer_fail_only_their_own_node(instance: AttackedInstance, peer: Peer) -> None:
    outcome = await instance.attack(answer_falsely(instance.execute, peer.url))
    check(outcome)
    refusals = [part.split(" × ") for part in outcome.refused.split(", ")]
    assert {name for _, name in refusals} <= {"HTTP_RESPONSE", "HTTP_TIMEOUT", "LIMIT"}, outcome
    # A gzip body of many members is a valid answer, if the node reads it in its time.
    assert sum(int(count) for count, _ in refusals) >= len(PATHS) - 1


async def test_clients_that_send_too_much_or_no_http_are_refused(instance: AttackedInstance) -> None:
    for attack, expected in (
        (send_large_headers, {"HTTP 431", "reset", "closed"}),
        (send_large_bodies, {"HTTP 413", "reset", "closed"}),
        (send_no_http, {"HTTP 400", "reset", "closed"}),
    ):
        outcome = await instance.attack(attack(instance.port))
        check(outcome)
        assert {part.split(" × ")[1] for part in outcome.refused.split(", ")} <= expected, outcome


def test_a_summary_counts_every_code() -> None:
    answers = [{"errors": [{"code": "LIMIT"}]}, {"data": {"a": {"errors": [{"code": "LIMIT"}], "run": None}}}]
    assert summary(answers) == "2 × LIMIT"
    assert summary({"data": 1}) == "nothing"
