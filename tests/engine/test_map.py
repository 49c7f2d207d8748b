"""The `map` node by itself: what it gives, how its items fail, what they see, and what is left when it is cut off."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from engine import lanes
from engine.attempts import Result, attempt
from engine.events import JSON, LogRecorded, Usage
from engine.lanes import digest_of
from engine.nodes.base import NodeConfig, NodeContext, NodeFailure, NodeType, Outcome, Output, WaitForAnswer
from engine.nodes.registry import NodeTypes, load_node_types
from engine.ports import DoneItem, Fenced, MapVisit
from engine.redact import MARK
from engine.spec import NodeSpec
from engine.states import LogLevel
from engine.work import Work
from tests.engine.given import Given
from tests.engine.test_secrets import VALUE, Known

DOUBLE = {"type": "transform", "config": {"output": "{{ item * 2 }}"}}
SMALL_OR_BIG = {
    "nodes": [
        {"id": "double", "type": "transform", "config": {"output": "{{ item * 2 }}"}},
        {"id": "is_big", "type": "conditional", "config": {"condition": "double.output > input.limit"}},
        {"id": "big", "type": "probe", "config": {"sees": "big {{ double.output }}"}},
        {"id": "small", "type": "transform", "config": {"output": "small {{ index }}"}},
    ],
    "edges": [
        {"source": "double", "target": "is_big"},
        {"source": "is_big", "target": "big", "port": "true"},
        {"source": "is_big", "target": "small", "port": "false"},
    ],
    "outputs": {"is": "{{ big.output or small.output }}"},
}
COUNTING = {
    "nodes": [
        {"id": "inc", "type": "transform", "config": {"output": "{{ (inc.output or 0) + 1 }}"}},
        {"id": "end", "type": "end", "config": {"output": "{{ inc.output }}"}},
    ],
    "edges": [
        {"source": "__start__", "target": "inc"},
        {"source": "inc", "target": "inc", "condition": "inc.output < item"},
        {"source": "inc", "target": "end", "condition": "inc.output >= item"},
    ],
}


class ProbeConfig(NodeConfig):
    sees: Any = None
    does: str = "output"


ProbeConfig.model_fields["sees"].json_schema_extra = {"format": "template"}
ProbeConfig.model_rebuild(force=True)


class Probe(NodeType[ProbeConfig]):
    """Gives what it sees, after a turn of the loop; or fails, raises, waits or hangs. Remembers who ran."""

    name = "probe"
    title = "Probe"
    description = "For tests."
    Config = ProbeConfig

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.under_way = self.most = 0
        self.hanging = asyncio.Event()

    async def execute(self, config: ProbeConfig, ctx: NodeContext) -> Outcome:
        self.ran[ctx.idempotency_key] += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self._execute(config, ctx)
        finally:
            self.under_way -= 1

    async def _execute(self, config: ProbeConfig, ctx: NodeContext) -> Outcome:
        value = ctx.render(config.sees)
        ctx.log(LogLevel.INFO, f"sees {value}", value=value)
        ctx.used(Usage("model", 3, 2, 0.5))
        ctx.text("said")
        await asyncio.sleep(0)
        match ctx.render(config.does):
            case "fail":
                raise NodeFailure("TEST", f"no {value}")
            case "raise":
                raise ValueError(f"cannot {value}")
            case "wait":
                return WaitForAnswer("?")
            case "nan":
                return Output(float("nan"))
            case "once" if self.ran[ctx.idempotency_key] == 1:
                raise NodeFailure("TEST", "not yet")
            case "hang":
                self.hanging.set()
                await asyncio.Event().wait()
        return Output(value)


GROWTH_MIB = 40


class Kept:
    """The port `MapItems`, kept in memory. Once it is dead, or another has the run, nothing is written any more."""

    def __init__(self) -> None:
        self.items: dict[int, DoneItem] = {}
        self.is_dead = self.is_fenced = False

    async def load(self, visit: MapVisit) -> list[DoneItem]:
        return list(self.items.values())

    async def keep(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
        await asyncio.sleep(0)
        if self.is_fenced:
            raise Fenced("another has it")
        if not self.is_dead:
            self.items |= {item.index: item for item in items}


def types_with(probe: Probe) -> NodeTypes:
    return NodeTypes([*load_node_types().values(), probe])


async def mapped(given: Given, probe: Probe, **config: Any) -> JSON:
    kind = types_with(probe)["map"]
    outcome = await kind.execute(kind.Config.model_validate(config), given.context)
    assert isinstance(outcome, Output)
    return outcome.value


async def attempted(given: Given, probe: Probe, **config: Any) -> Result:
    """As a run does it: with its secrets, and whatever goes wrong as an error."""
    kind = types_with(probe)["map"]
    work = Work(NodeSpec("n", "map", config=config), kind, kind.Config.model_validate(config))
    return await attempt(work, given.context, lambda number, error, pause: None, lambda number: None)


async def test_each_item_goes_through_the_node_and_the_order_is_kept() -> None:
    given = Given({"input": {"list": [3, 1, 2]}})
    assert await mapped(given, Probe(), items="{{ input.list }}", node=DOUBLE) == {"items": [6, 2, 4], "errors": []}
    assert given.context.noted_input == {"count": 3}


async def test_a_list_may_be_empty_or_be_made_of_templates() -> None:
    assert await mapped(Given(), Probe(), items=[], node=DOUBLE) == {"items": [], "errors": []}
    given = Given({"input": 4})
    assert (await mapped(given, Probe(), items=["{{ input }}", 5], node=DOUBLE))["items"] == [8, 10]


async def test_each_item_goes_through_a_spec_with_branches_and_loops() -> None:
    given, probe = Given({"input": {"limit": 3}}), Probe()
    output = await mapped(given, probe, items=[1, 2, 3], spec=SMALL_OR_BIG)
    assert output == {"items": [{"is": "small 0"}, {"is": "big 4"}, {"is": "big 6"}], "errors": []}
    assert probe.ran == {"run_1/0/n/1/1/big/1": 1, "run_1/0/n/1/2/big/1": 1}
    assert (await mapped(Given({"input": None}), Probe(), items=[1, 4, 2], spec=COUNTING))["items"] == [1, 4, 2]


async def test_items_see_what_the_map_sees_and_a_node_of_their_own_spec_hides_an_outer_one() -> None:
    outer = {"output": "outer", "status": "COMPLETED"}
    given = Given({"input": "in", "double": outer, "other": outer, "nodes": {"double": outer, "other": outer}})
    sees = "{{ item }} {{ index }} {{ input }} {{ double.output }} {{ nodes['other'].output }}"
    node = {"type": "transform", "config": {"output": sees}}
    assert (await mapped(given, Probe(), items=["a"], node=node))["items"] == ["a 0 in outer outer"]
    spec = {
        "nodes": [{"id": "double", "type": "transform", "config": {"output": 7}}, {"id": "x", **node}],
        "edges": [{"source": "double", "target": "x"}],
    }
    assert (await mapped(given, Probe(), items=["a"], spec=spec))["items"] == [{"x": "a 0 in 7 outer"}]


async def test_so_many_items_are_under_way_and_no_more() -> None:
    probe = Probe()
    await mapped(Given(), probe, items=list(range(50)), concurrency=7, node={"type": "probe"})
    assert probe.most == 7


@pytest.mark.parametrize("way", ["node", "spec"])
async def test_logs_carry_the_index_usage_adds_up_and_text_stays_inside(way: str) -> None:
    given = Given()
    probing = {"type": "probe", "config": {"sees": "{{ item }}"}}
    inner = probing if way == "node" else {"nodes": [{"id": "p", **probing}], "edges": []}
    await mapped(given, Probe(), items=["a", "b"], **{way: inner})
    logs = [what for what in given.happenings if isinstance(what, LogRecorded)]
    assert [(log.message, log.fields, log.node_id) for log in logs] == [
        ("sees a", {"value": "a", "index": 0}, "n"),
        ("sees b", {"value": "b", "index": 1}, "n"),
    ]
    assert given.state.usage == Usage("model", 6, 4, 1.0)
    assert given.texts == []


@pytest.mark.parametrize("way", ["node", "spec"])
async def test_secrets_are_seen_by_the_items_and_by_nobody_else(way: str) -> None:
    known = Known(key=VALUE)
    given = Given({"input": None}, {"secrets": known, "items": (kept := Kept())})
    probing = {"type": "probe", "config": {"sees": "{{ item }}{{ secrets.key }}"}}
    inner = probing if way == "node" else {"nodes": [{"id": "p", **probing}], "edges": []}
    result = await attempted(given, Probe(), items=[1, 2], **{way: inner})
    assert known.asked == 1
    assert isinstance(result.outcome, Output)
    assert str(result.outcome.value).count(MARK) == 2
    assert VALUE not in repr((given.happenings, result, kept.items))


async def test_an_item_is_tried_again_by_a_retry_of_its_own() -> None:
    probe, given = Probe(), Given()
    node = {
        "type": "probe",
        "config": {"sees": "{{ item }}", "does": "once"},
        "retry": {"maxAttempts": 2, "backoffS": 0},
    }
    assert (await mapped(given, probe, items=[5], node=node))["items"] == [5]
    assert probe.ran == {"run_1/0/n/1/0": 2}
    assert "item 0: attempt 1 failed: not yet; the next in 0 s" in given.logged


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no list": ({"items": "{{ input }}", "node": DOUBLE}, "CONFIG", "must give a list, not {'n': 1}"),
    "too many": ({"items": "{{ range(100000) | list + [1] }}", "node": DOUBLE}, "CONFIG", "the limit is 100,000"),
    "a template of the list": ({"items": "{{ input.nothing }}", "node": DOUBLE}, "TEMPLATE", "nothing"),
    "a template of an item": (
        {"items": [1], "node": {"type": "transform", "config": {"output": "{{ item.x.y }}"}}},
        "TEMPLATE",
        "item 0:",
    ),
    "an item that fails": (
        {"items": [1, 2], "node": {"type": "probe", "config": {"does": "fail"}}},
        "TEST",
        "item 0: no",
    ),
    "an item that raises": (
        {"items": [1], "node": {"type": "probe", "config": {"does": "raise"}}},
        "NODE",
        "item 0: ValueError: cannot",
    ),
    "an item that is too slow": (
        {"items": [1], "node": {"type": "probe", "config": {"does": "hang"}, "timeoutS": 0.01}},
        "TIMEOUT",
        "item 0: node 'n' did not finish within 0.01 s",
    ),
    "an item that is no JSON": ({"items": [1], "node": {"type": "probe", "config": {"does": "nan"}}}, "OUTPUT", "nan"),
    "an item that waits": ({"items": [1], "node": {"type": "probe", "config": {"does": "wait"}}}, "CONFIG", "waits"),
    "a type that waits": ({"items": [1], "node": {"type": "human", "config": {"prompt": 1}}}, "CONFIG", "waits"),
    "a type that is not there": ({"items": [1], "node": {"type": "nope"}}, "CONFIG", "there is no node type 'nope'"),
    "a spec that is none": ({"items": [1], "spec": {"nodes": 1}}, "CONFIG", "must be a list"),
    "a spec that fails": (
        {"items": [1], "spec": {"nodes": [{"id": "p", "type": "probe", "config": {"does": "fail"}}], "edges": []}},
        "TEST",
        "item 0: no",
    ),
    "a spec that waits": (
        {"items": [1], "spec": {"nodes": [{"id": "p", "type": "probe", "config": {"does": "wait"}}], "edges": []}},
        "CONFIG",
        "waits",
    ),
    "too large together": (
        {"items": [0, 1, 2], "node": {"type": "transform", "config": {"output": "{{ 'x' * 3000000 }}"}}},
        "OUTPUT",
        "together are larger than 8 MiB",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_goes_wrong_is_said_with_a_code_and_a_sentence(name: str) -> None:
    config, code, told = BAD[name]
    result = await attempted(Given({"input": {"n": 1}}), Probe(), **config)
    assert result.error is not None
    assert (result.error.code, result.error.node_id) == (code, "n")
    assert told in result.error.message


async def test_failed_items_are_collected_and_the_others_go_on() -> None:
    does = "{{ 'fail' if item is odd else 'output' }}"
    node = {"type": "probe", "config": {"sees": "{{ item }}", "does": does}}
    output = await mapped(Given(), Probe(), items=[0, 1, 2, 3], onItemError="collect", node=node)
    assert output == {
        "items": [0, None, 2, None],
        "errors": [{"index": 1, "code": "TEST", "message": "no 1"}, {"index": 3, "code": "TEST", "message": "no 3"}],
    }


async def test_a_cancel_stops_all_items_at_once_and_what_is_done_is_kept() -> None:
    probe, kept = Probe(), Kept()
    does = "{{ 'hang' if item > 3 else 'output' }}"
    node = {"type": "probe", "config": {"sees": "{{ item }}", "does": does}}
    given = Given(resources={"items": kept})
    running = asyncio.create_task(mapped(given, probe, items=list(range(20)), node=node, concurrency=5))
    await probe.hanging.wait()
    while sum(probe.ran.values()) < 9:  # noqa: ASYNC110 (four that are done, five that hang)
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert probe.under_way == 0 and len(probe.ran) == 9
    assert sorted(kept.items) == [0, 1, 2, 3]


async def test_a_failure_stops_the_others_and_another_attempt_does_the_rest_alone() -> None:
    probe, given = Probe(), Given(resources={"items": Kept()})
    does = "{{ 'once' if item == 5 else 'output' }}"
    config = {
        "items": list(range(10)),
        "concurrency": 1,
        "node": {"type": "probe", "config": {"sees": "{{ item }}", "does": does}},
    }
    with pytest.raises(NodeFailure, match="item 5: not yet"):
        await mapped(given, probe, **config)
    assert len(probe.ran) == 6
    assert (await mapped(given, probe, **config))["items"] == list(range(10))
    assert probe.ran.pop("run_1/0/n/1/5") == 2
    assert set(probe.ran.values()) == {1}


async def test_what_was_done_for_another_item_is_done_anew() -> None:
    """The list of a map that is launched again may be another one: it may look at branches that have gone on since."""
    probe, given = Probe(), Given({"input": ["a", "x", "c", "d"]}, {"items": (kept := Kept())})
    kept.items = {index: DoneItem(index, digest_of(item), f'"{item}{item}"') for index, item in enumerate("abcde")}
    config = {"items": "{{ input }}", "node": {"type": "probe", "config": {"sees": "{{ item }}{{ item }}"}}}
    assert (await mapped(given, probe, **config))["items"] == ["aa", "xx", "cc", "dd"]
    assert probe.ran == {"run_1/0/n/1/1": 1}


async def test_who_has_lost_the_run_stops() -> None:
    kept = Kept()
    kept.is_fenced = True
    node = {"type": "probe", "config": {"does": "{{ 'hang' if index else 'output' }}"}}
    with pytest.raises(NodeFailure, match="another has it"):
        await mapped(Given(resources={"items": kept}), Probe(), items=[1, 2], node=node)


async def test_progress_is_over_the_items_and_goes_on_where_it_was() -> None:
    probe, kept = Probe(), Kept()
    kept.items = {index: DoneItem(index, digest_of(index + 1), "0") for index in range(3)}
    given = Given(resources={"items": kept})
    node = {"type": "probe", "config": {"does": "hang"}}
    running = asyncio.create_task(mapped(given, probe, items=[1, 2, 3, 4], node=node))
    await probe.hanging.wait()
    assert given.state.progress == 0.75 and given.state.message == "3 of 4 items"
    running.cancel()
    await asyncio.wait([running])


@settings(max_examples=60, deadline=None)
@drawn(
    items=st.lists(st.one_of(st.integers(-9, 9), st.text("aé{}", max_size=4), st.none()), max_size=25),
    failing=st.sets(st.integers(0, 24)),
    concurrency=st.integers(1, 8),
    crash_at=st.integers(1, 60),
    way=st.sampled_from(["node", "spec"]),
)
async def test_whatever_fails_and_whenever_it_crashes_the_output_is_that_of_one_after_the_other(
    items: list[JSON], failing: set[int], concurrency: int, crash_at: int, way: str
) -> None:
    probe, kept = Probe(), Kept()
    probing = {
        "type": "probe",
        "config": {"sees": "{{ item }}", "does": f"{{{{ 'fail' if index in {sorted(failing)} else 'output' }}}}"},
    }
    spec = {"nodes": [{"id": "p", **probing}, {"id": "end", "type": "end", "config": {"output": "{{ p.output }}"}}]}
    inner = probing if way == "node" else {**spec, "edges": [{"source": "p", "target": "end"}]}
    config = {"items": "{{ input }}", "concurrency": concurrency, "onItemError": "collect", way: inner}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "BATCH", 2)
        running = asyncio.create_task(mapped(Given({"input": items}, {"items": kept}), probe, **config))
        while not running.done() and sum(probe.ran.values()) < crash_at:  # noqa: ASYNC110 (the crash comes anywhere)
            await asyncio.sleep(0)
    kept.is_dead = True
    running.cancel()
    await asyncio.wait([running])
    before, kept.is_dead = set(kept.items), False
    output = await mapped(Given({"input": items}, {"items": kept}), probe, **config)

    fails = [index for index in range(len(items)) if index in failing]
    assert output["items"] == [None if index in failing else item for index, item in enumerate(items)]
    assert [error["index"] for error in output["errors"]] == fails
    ran = Counter(key.split("/")[4] for key in probe.ran.elements())
    assert all(ran[str(index)] == 1 for index in before)
    assert all(1 <= ran[str(index)] <= 2 for index in range(len(items)))


class Forgetting(Kept):
    """A store that is elsewhere: what it is given takes no memory here."""

    async def keep(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
        assert items


def _memory(name: str) -> float:
    """MiB, as the kernel counts them: `VmRSS` now, `VmHWM` at most since it was set back."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def _forget_the_most() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux")
@pytest.mark.parametrize(("way", "count"), [("node", 10_000), ("spec", 2_000)])
async def test_ten_thousand_items_take_little_more_memory_than_their_values(way: str, count: int) -> None:
    """Just below the 8 MiB that an output may have. Measured 10 MiB for nodes; for 10,000 specs of 400 characters 8 MiB."""
    items = [f"{index:800}" for index in range(count)]
    echo = {"type": "transform", "config": {"output": "{{ item }}"}}
    inner = echo if way == "node" else {"nodes": [{"id": "echo", **echo}], "edges": []}
    given = Given({"input": items}, {"items": Forgetting()})
    await mapped(given, Probe(), items=[1], **{way: inner})
    _forget_the_most()
    before = _memory("VmRSS")
    output = await mapped(given, Probe(), items="{{ input }}", **{way: inner})
    assert _memory("VmHWM") - before < GROWTH_MIB
    assert output["items"] == (items if way == "node" else [{"echo": item} for item in items])
