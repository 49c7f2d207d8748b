"""How much memory a `map` node takes for as many items as it may have, as the kernel counts it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.sdk.resources import DoneItem, MapVisit
from tests.engine.map_nodes import MemoryItems, Probe, run_map
from tests.engine.node_runner import NodeHarness

GROWTH_MIB = 40


class Forgetting(MemoryItems):
    """A store that is elsewhere: what it is given takes no memory here."""

    async def save(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
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
    given = NodeHarness({"input": items}, {"items": Forgetting()})
    await run_map(given, Probe(), items=[1], **{way: inner})
    _forget_the_most()
    before = _memory("VmRSS")
    output = await run_map(given, Probe(), items="{{ input }}", **{way: inner})
    assert _memory("VmHWM") - before < GROWTH_MIB
    assert output["items"] == (items if way == "node" else [{"echo": item} for item in items])
