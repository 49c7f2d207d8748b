"""The workflows of the load have the results that the suite expects when nothing fails."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from app.chaos import execution_log, nodes, workflows
from app.chaos.workflows import ChaosCase
from engine.nodes.registry import load_node_types
from engine.sdk.node_types import NodeTypes
from tests.engine import memory_runs

CASES = [workflows._join, workflows._loop, workflows._map_of_nodes, workflows._map_of_specs]


@pytest.mark.parametrize("make", CASES)
async def test_a_workflow_has_its_expected_result(
    make: Callable[[Random], ChaosCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(execution_log.FOLDER, str(tmp_path))
    execution_log._file.cache_clear()
    case = make(Random(1))
    types = NodeTypes([*load_node_types().values(), *(kind() for kind in nodes.TYPES)])
    ended = await memory_runs.run(case.spec, case.inputs or {}, types=types)
    execution_log._file.cache_clear()
    assert case.accepts(str(ended.status), ended.output), ended
