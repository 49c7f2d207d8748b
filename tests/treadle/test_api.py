"""The package `treadle` exports what authors of node types and tools need."""

import subprocess
import sys

import treadle
import treadle.testing
from engine.sdk.node import NodeType
from tests.paths import ROOT


def test_every_exported_name_exists() -> None:
    for module in (treadle, treadle.testing):
        assert sorted(module.__all__) == sorted(set(module.__all__))
        assert all(getattr(module, name) is not None for name in module.__all__)


def test_the_exported_classes_are_those_that_the_engine_uses() -> None:
    assert treadle.NodeType is NodeType
    assert treadle.try_node is treadle.testing.try_node


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(treadle, "no_such_name")


def test_a_node_type_is_imported_without_langgraph() -> None:
    code = "import sys, treadle; print([name for name in ('langgraph', 'langchain_core') if name in sys.modules])"
    environment = {"PYTHONPATH": str(ROOT)}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"
