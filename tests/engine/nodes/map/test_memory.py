"""Memory of a `map` node with many items, as the kernel counts it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.sdk.resources import DoneItem, MapVisit
from tests.engine.node_runner import NodeHarness
from tests.engine.nodes.map.map_nodes import MapProbe, MemoryItems, run_map

GROWTH_MIB = 40


class ForgetfulItems(MemoryItems):
    """A store that drops the items, as a store in another process uses no memory here."""

    async def save(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
        assert items


def _memory(name: str) -> float:
    """Return MiB from /proc: `VmRSS` is the current value, `VmHWM` the peak since its reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize(("way", "count"), [("node", 10_000), ("spec", 2_000)])
async def test_ten_thousand_items_use_little_more_memory_than_their_values(way: str, count: int) -> None:
    """The output is just below its limit of 8 MiB.

    Measured: 10 MiB for nodes, 8 MiB for 10,000 specs of 400 characters.
    """
    items = [f"{index:800}" for index in range(count)]
    echo = {"type": "transform", "config": {"output": "{{ item }}"}}
    inner = echo if way == "node" else {"nodes": [{"id": "echo", **echo}], "edges": []}
    harness = NodeHarness({"input": items}, {"items": ForgetfulItems()})
    await run_map(harness, MapProbe(), items=[1], **{way: inner})
    _reset_peak()
    before = _memory("VmRSS")
    output = await run_map(harness, MapProbe(), items="{{ input }}", **{way: inner})
    assert _memory("VmHWM") - before < GROWTH_MIB
    assert output["items"] == (items if way == "node" else [{"echo": item} for item in items])
