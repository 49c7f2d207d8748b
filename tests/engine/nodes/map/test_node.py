"""`map` nodes outside of a run: output, failures, and the names that items can use."""

from typing import Any

import pytest

from engine.errors import NodeFailure
from engine.events import LogRecorded, Usage
from engine.nodes.map.pool import digest_of
from engine.sdk.node import Output
from engine.sdk.resources import DoneItem
from engine.values.redaction import MARK
from tests.engine.node_runner import NodeHarness
from tests.engine.nodes.map.map_nodes import MapProbe, MemoryItems, run_map, run_map_with_attempts
from tests.engine.secret_values import VALUE, MemorySecrets

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


async def test_each_item_runs_the_node_and_the_output_keeps_the_order() -> None:
    harness = NodeHarness({"input": {"list": [3, 1, 2]}})
    assert await run_map(harness, MapProbe(), items="{{ input.list }}", node=DOUBLE) == {
        "items": [6, 2, 4],
        "errors": [],
    }
    assert harness.context.noted_input == {"count": 3}


async def test_a_list_can_be_empty_or_contain_templates() -> None:
    assert await run_map(NodeHarness(), MapProbe(), items=[], node=DOUBLE) == {"items": [], "errors": []}
    harness = NodeHarness({"input": 4})
    assert (await run_map(harness, MapProbe(), items=["{{ input }}", 5], node=DOUBLE))["items"] == [8, 10]


async def test_each_item_runs_a_spec_with_branches_and_loops() -> None:
    harness, probe = NodeHarness({"input": {"limit": 3}}), MapProbe()
    output = await run_map(harness, probe, items=[1, 2, 3], spec=SMALL_OR_BIG)
    assert output == {"items": [{"is": "small 0"}, {"is": "big 4"}, {"is": "big 6"}], "errors": []}
    assert probe.ran == {"run_1/0/n/1/1/big/1": 1, "run_1/0/n/1/2/big/1": 1}
    assert (await run_map(NodeHarness({"input": None}), MapProbe(), items=[1, 4, 2], spec=COUNTING))["items"] == [
        1,
        4,
        2,
    ]


async def test_items_use_the_names_of_the_map_and_nested_nodes_hide_outer_ones() -> None:
    outer = {"output": "outer", "status": "COMPLETED"}
    harness = NodeHarness({"input": "in", "double": outer, "other": outer, "nodes": {"double": outer, "other": outer}})
    sees = "{{ item }} {{ index }} {{ input }} {{ double.output }} {{ nodes['other'].output }}"
    node = {"type": "transform", "config": {"output": sees}}
    assert (await run_map(harness, MapProbe(), items=["a"], node=node))["items"] == ["a 0 in outer outer"]
    spec = {
        "nodes": [{"id": "double", "type": "transform", "config": {"output": 7}}, {"id": "x", **node}],
        "edges": [{"source": "double", "target": "x"}],
    }
    assert (await run_map(harness, MapProbe(), items=["a"], spec=spec))["items"] == [{"x": "a 0 in 7 outer"}]


async def test_the_inputs_of_a_nested_spec_complete_and_check_the_input_of_the_run() -> None:
    schema = {"properties": {"factor": {"type": "integer", "default": 3}}}
    product = {"id": "a", "type": "transform", "config": {"output": "{{ item * input.factor }}"}}
    spec = {"inputs": schema, "nodes": [product], "edges": [], "outputs": {"n": "{{ a.output }}"}}
    for given, expected in (({}, [{"n": 3}, {"n": 6}]), ({"factor": 5}, [{"n": 5}, {"n": 10}])):
        output = await run_map(NodeHarness({"input": given}), MapProbe(), items=[1, 2], spec=spec)
        assert output["items"] == expected
    with pytest.raises(NodeFailure, match=r"does not match `inputs` of the spec: inputs\.factor: ") as failed:
        await run_map(NodeHarness({"input": {"factor": "x"}}), MapProbe(), items=[1], spec=spec)
    assert failed.value.code == "CONFIG"


async def test_the_number_of_concurrent_items_is_limited() -> None:
    probe = MapProbe()
    await run_map(NodeHarness(), probe, items=list(range(50)), concurrency=7, node={"type": "probe"})
    assert probe.most == 7


@pytest.mark.parametrize("way", ["node", "spec"])
async def test_logs_have_the_index_usage_adds_up_and_text_is_dropped(way: str) -> None:
    harness = NodeHarness()
    probing = {"type": "probe", "config": {"sees": "{{ item }}"}}
    inner = probing if way == "node" else {"nodes": [{"id": "p", **probing}], "edges": []}
    await run_map(harness, MapProbe(), items=["a", "b"], **{way: inner})
    logs = [what for what in harness.events if isinstance(what, LogRecorded)]
    assert [(log.message, log.fields, log.node_id) for log in logs] == [
        ("sees a", {"value": "a", "index": 0}, "n"),
        ("sees b", {"value": "b", "index": 1}, "n"),
    ]
    assert harness.state.usage == Usage("model", 6, 4, 1.0)
    assert harness.deltas == []


@pytest.mark.parametrize("way", ["node", "spec"])
async def test_only_the_items_see_the_secrets(way: str) -> None:
    secrets = MemorySecrets(key=VALUE)
    harness = NodeHarness({"input": None}, {"secrets": secrets, "items": (store := MemoryItems())})
    probing = {"type": "probe", "config": {"sees": "{{ item }}{{ secrets.key }}"}}
    inner = probing if way == "node" else {"nodes": [{"id": "p", **probing}], "edges": []}
    result = await run_map_with_attempts(harness, MapProbe(), items=[1, 2], **{way: inner})
    assert secrets.calls == 1
    assert isinstance(result.outcome, Output)
    assert str(result.outcome.value).count(MARK) == 2
    assert VALUE not in repr((harness.events, result, store.items))


async def test_a_failed_item_is_retried_by_its_own_retry() -> None:
    probe, harness = MapProbe(), NodeHarness()
    node = {
        "type": "probe",
        "config": {"sees": "{{ item }}", "does": "once"},
        "retry": {"maxAttempts": 2, "backoffS": 0},
    }
    assert (await run_map(harness, probe, items=[5], node=node))["items"] == [5]
    assert probe.ran == {"run_1/0/n/1/0": 2}
    assert "attempt 1 failed: not yet; attempt 2 begins in 0 s" in harness.log_messages


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no list": ({"items": "{{ input }}", "node": DOUBLE}, "CONFIG", 'must give a list, not {"n":1}'),
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
    "an item that is no JSON": ({"items": [1], "node": {"type": "probe", "config": {"does": "nan"}}}, "OUTPUT", "NaN"),
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
async def test_a_failed_map_has_a_code_and_a_message(name: str) -> None:
    config, code, message = BAD[name]
    result = await run_map_with_attempts(NodeHarness({"input": {"n": 1}}), MapProbe(), **config)
    assert result.error is not None
    assert (result.error.code, result.error.node_id) == (code, "n")
    assert message in result.error.message


async def test_failed_items_are_collected_and_the_others_continue() -> None:
    does = "{{ 'fail' if item is odd else 'output' }}"
    node = {"type": "probe", "config": {"sees": "{{ item }}", "does": does}}
    output = await run_map(NodeHarness(), MapProbe(), items=[0, 1, 2, 3], onItemError="collect", node=node)
    more = {"code": "TEST", "retryable": False, "details": {"of": "n"}}
    assert output == {
        "items": [0, None, 2, None],
        "errors": [{"index": 1, "message": "no 1", **more}, {"index": 3, "message": "no 3", **more}],
    }


async def test_the_details_of_failed_items_are_bounded() -> None:
    node = {"type": "probe", "config": {"sees": "{{ 'x' * 1000 }}", "does": "explain"}}
    output = await run_map(NodeHarness(), MapProbe(), items=list(range(400)), onItemError="collect", node=node)
    details = [error["details"] for error in output["errors"]]
    kept = [one for one in details if one is not None]
    assert 200 < len(kept) < 262
    assert len(details) == 400 and all(one == kept[0] for one in kept), "the items that end first keep theirs"


async def test_the_error_of_an_item_that_an_earlier_release_stored_is_complete() -> None:
    store = MemoryItems()
    store.items = {0: DoneItem(0, digest_of(7), None, {"code": "TEST", "message": "no"})}
    harness = NodeHarness({}, {"items": store})
    output = await run_map(harness, MapProbe(), items=[7], onItemError="collect", node=DOUBLE)
    assert output["errors"] == [{"index": 0, "code": "TEST", "message": "no", "retryable": False, "details": None}]
