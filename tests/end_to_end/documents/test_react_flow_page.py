"""The program of docs/react_flow.md translates every example to React Flow and back without a loss."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.paths import ROOT
from web.build import machine_node, wheel_node

[PROGRAM] = re.findall(r"^```js\n(.*?)^```$", (ROOT / "docs" / "react_flow.md").read_text("utf-8"), re.M | re.S)
READ = """
import { readFileSync } from "node:fs";
const specs = JSON.parse(readFileSync(0, "utf-8"));
console.log(JSON.stringify(specs.map((spec) => [toFlow(spec), toSpec(spec, toFlow(spec))])));
"""


def examples() -> list[dict[str, Any]]:
    folders = (ROOT / "examples", ROOT / "engine" / "workflow_templates")
    texts = [json.loads(path.read_text("utf-8")) for folder in folders for path in sorted(folder.glob("*.json"))]
    return [text["spec"] for text in texts if "spec" in text]


def translated(folder: Path, specs: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    (folder / "flow.mjs").write_text(PROGRAM + READ)
    node = machine_node() or wheel_node()
    command = [node.program, folder / "flow.mjs"]
    done = subprocess.run(command, input=json.dumps(specs), capture_output=True, text=True, timeout=30, check=True)
    results: list[tuple[dict[str, Any], dict[str, Any]]] = json.loads(done.stdout)
    return results


def comparable(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a spec without the places of nodes and the ids of edges, which a flow adds where there are none."""
    nodes = [{name: value for name, value in node.items() if name != "position"} for node in spec["nodes"]]
    edges = [{name: value for name, value in edge.items() if name != "id"} for edge in spec.get("edges", [])]
    return {**spec, "nodes": nodes, "edges": edges}


def test_examples_come_back_as_they_were(tmp_path: Path) -> None:
    specs = [{**spec, "unknown": 1} for spec in examples()]
    assert len(specs) > 10
    for spec, (flow, back) in zip(specs, translated(tmp_path, specs), strict=True):
        assert comparable(back) == comparable(spec)
        assert all("x" in node["position"] for node in flow["nodes"])
        assert {edge["sourceHandle"] for edge in flow["edges"]} == {edge.get("port") for edge in spec.get("edges", [])}


def test_an_edge_without_a_handle_loses_its_port(tmp_path: Path) -> None:
    spec = {"nodes": [{"id": "a", "type": "start"}, {"id": "b", "type": "end"}]}
    edge = {"id": "e", "source": "a", "target": "b"}
    program = PROGRAM + (
        f"const flow = toFlow({json.dumps({**spec, 'edges': [{**edge, 'port': 'x'}]})});"
        "flow.edges[0].sourceHandle = null; console.log(JSON.stringify(toSpec({}, flow).edges));"
    )
    (tmp_path / "flow.mjs").write_text(program)
    node = machine_node() or wheel_node()
    done = subprocess.run([node.program, tmp_path / "flow.mjs"], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout) == [edge]
