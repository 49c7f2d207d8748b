"""A short form of `make hostile`: nothing gets through, and others are served during each attack."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.end_to_end.support.system import copy_database
from tests.hostile.attacks import ATTACKS
from tests.hostile.deployment import AttackedDeployment, deployment
from tests.hostile.report import (
    BLOCK_S,
    HEADINGS,
    AttackResult,
    AttackRow,
    Block,
    Blocks,
    ProbeWaits,
    as_markdown,
    as_text,
    codes,
)

MOST_S = 15.0
"""The longest wait of a probe on a slow machine that runs other tests as well. `make hostile` has the
real bounds."""
SHORT = {
    "answer_falsely": "HTTP_RESPONSE",
    "inherit_descriptors": "",
    "leave_session_state": "TOOL_FAILED",
    "write_pickles": "",
    "write_malformed_entries": "",
    "send_from_other_sites": "HTTP 403",
    "read_files_of_the_host": "",
    "reach_other_projects": "NOT_FOUND",
    "forge_log_lines": "HTTP 404",
    "send_no_http": "HTTP 400",
    "send_largest_bodies": "LIMIT",
}
"""A refusal that each attack meets."""


@pytest.fixture(scope="module")
async def target(
    template: str, embedded: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[AttackedDeployment]:
    database_url = await copy_database(template, "hostile")
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "data").mkdir()
    async with deployment(database_url, embedded[1].replace("db=0", "db=4"), folder) as target:
        yield target


@pytest.mark.parametrize("name", SHORT)
async def test_an_attack_is_refused_and_others_are_served(target: AttackedDeployment, name: str) -> None:
    row = await target.row(name, ATTACKS[name](target))
    assert [*row.result.passed, *row.waits.failures] == []
    assert max(max(seconds) for seconds in row.waits.seconds.values()) < MOST_S, row
    assert not SHORT[name] or row.result.refused[SHORT[name]], row.result.refused


def row_of(health_s: float, code_s: float, passed: list[str], block_s: float = 0.1, core_s: float = 0.0) -> AttackRow:
    seconds = {"health": [0.01, health_s], "typename": [0.01], "run": [0.02], "code": [code_s]}
    waits = ProbeWaits(seconds, core_seconds={"health": [0.0, core_s]})
    blocks = Blocks({"server": [Block(0.05, 0.06), Block(block_s, 0.2, ["place"])], "worker": []})
    return AttackRow("flood", AttackResult(Counter({"LIMIT": 3}), 5, passed), waits, blocks, own_code_s=0.4)


@pytest.mark.parametrize(
    ("row", "problems"),
    [
        (row_of(0.25, 0.8, []), []),
        (row_of(0.36, 0.8, [], core_s=0.2), []),
        (row_of(0.56, 0.8, [], core_s=0.2), ["/health waited for more than 250 ms"]),
        (row_of(0.26, 0.8, []), ["/health waited for more than 250 ms"]),
        (row_of(0.1, 0.81, []), ["other code waited for more than 800 ms"]),
        (row_of(0.1, 0.1, ["a leak"]), ["a leak"]),
        (row_of(0.1, 0.1, [], 0.15), ["the event loop of the server was blocked for more than 100 ms"]),
    ],
)
def test_a_row_says_which_bounds_it_misses(row: AttackRow, problems: list[str]) -> None:
    assert row.problems == problems
    cells = row.cells()
    assert len(cells) == len(HEADINGS)
    assert cells[5:] == [
        f"{row.blocks.longest('server') * 1000:.0f}",
        "0",
        "5",
        str(len(row.result.passed)),
        "3 × LIMIT",
        "missed" if problems else "busy" if row.waits.longest("health") > 0.25 else "met",
    ]
    assert as_text(cells).startswith("flood")
    assert as_markdown([cells]).count("\n") == 2
    is_blocked = row.blocks.longest("server") > BLOCK_S
    assert row.blocks.lines() == (["    server blocked for 150 ms at place"] if is_blocked else [])


def test_all_codes_of_answers_are_counted() -> None:
    answers = [{"errors": [{"code": "LIMIT"}]}, {"data": {"a": {"errors": [{"code": "LIMIT"}], "run": None}}}]
    assert codes(answers) == Counter({"LIMIT": 2})
    assert codes({"data": 1}) == Counter()
