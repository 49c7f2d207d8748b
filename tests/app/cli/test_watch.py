"""What `treadle run` prints: no text of a workflow or of a peer sends commands to the terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from app.cli.client import ApiClient
from app.cli.watch import RunWatcher, _print_result, _table
from treadle.client import NodeStateData, RunView

HOSTILE = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202ex\u2066y"
CONTROLS = set("\x1b\x07\x9b\u202e\u2066")
STATE: Any = {"node_id": "n", "label": HOSTILE, "type": HOSTILE, "status": "FAILED", "message": HOSTILE}
REST: Any = {"visits": 1, "duration_ms": 1.0, "error": None}


@pytest.mark.parametrize("place", ["error", "output", "table", "question"])
def test_no_text_sends_commands_to_the_terminal(place: str) -> None:
    console = Console(file=io.StringIO(), width=500)
    error = {"code": "A", "nodeId": HOSTILE, "message": HOSTILE} if place == "error" else None
    if place == "table":
        view = RunView()
        view.status, view.nodes = "FAILED", {"n": NodeStateData.model_construct(**STATE, **REST)}
        console.print(_table(view))
    elif place == "question":
        watcher = RunWatcher(ApiClient("localhost:1"), is_live=False)
        watcher._console = console
        watcher._print(f"{HOSTILE}\nnext line")
    else:
        _print_result(console, {"status": "FAILED", "durationMs": 1, "error": error, "output": {"a": HOSTILE}})
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "title" in printed
    assert not CONTROLS & set(printed)
