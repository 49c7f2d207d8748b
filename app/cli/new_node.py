"""`treadle new-node`: writes a package with a node type of its own, its test and its README. What is there already stays."""

import keyword
import re
from pathlib import Path
from string import Template

from engine.nodes.registry import BUILT_IN, GROUP

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "treadle-$dashed"
version = "0.1.0"
description = "The node type `$name` for Treadle."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["treadle"]

[project.entry-points."$group"]
$name = "treadle_$name:$cls"

[tool.hatch.build.targets.wheel]
only-include = ["treadle_$name.py"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""

MODULE = '''\
"""`$name`: what it does, in a sentence."""

from typing import Any, ClassVar

from pydantic import Field

from engine.sdk.node import NodeConfig, NodeContext, NodeFailure, NodeType, Output


class ${cls}Config(NodeConfig):
    """A builder draws its form from this: give every field a title, a description and an example."""

    text: str = Field(
        title="Text",
        description="What is written in capitals.",
        examples=["{{ input.text }}"],
        json_schema_extra={"format": "template"},
    )


class $cls(NodeType[${cls}Config]):
    name: ClassVar[str] = "$name"
    title: ClassVar[str] = "$title"
    description: ClassVar[str] = "Writes a text in capitals."
    category: ClassVar[str] = "custom"
    icon: ClassVar[str] = "box"
    Config: ClassVar[type[NodeConfig]] = ${cls}Config
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "The text in capitals."}},
        "required": ["text"],
    }
    example: ClassVar[dict[str, Any]] = {"text": "{{ input.text }}"}

    async def execute(self, config: ${cls}Config, ctx: NodeContext) -> Output:
        text = ctx.render(config.text)
        ctx.note_input({"text": text})
        if not isinstance(text, str):
            raise NodeFailure("CONFIG", f"`text` must give a text, not {text!r:.80}")
        return Output({"text": text.upper()})
'''

TEST = '''\
"""The node type `$name`, run by itself."""

import asyncio

from engine.sdk.node import Output
from engine.runtime.single_node import try_node
from treadle_$name import $cls


def test_it_writes_a_text_in_capitals() -> None:
    trial = asyncio.run(try_node($cls(), {"text": "{{ input.name }}"}, {"input": {"name": "Ada"}}))
    assert trial.error is None
    assert trial.outcome == Output({"text": "ADA"})


def test_what_is_no_text_is_refused() -> None:
    trial = asyncio.run(try_node($cls(), {"text": "{{ input.n }}"}, {"input": {"n": 5}}))
    assert trial.error is not None and trial.error.code == "CONFIG"


def test_its_example_is_right() -> None:
    trial = asyncio.run(try_node($cls(), $cls.example, {"input": {"text": "hello"}}))
    assert trial.outcome == Output({"text": "HELLO"})
'''

README = """\
# The node type `$name`

Adds nodes of the type `$name` to Treadle.

```sh
pip install -e .     # into the environment that Treadle runs in
pytest               # its test
treadle doctor       # `node types` names it, or says why it cannot be loaded
```

Restart the server and the workers: both read the entry point `$group` when they start.

```json
{"id": "shout", "type": "$name", "config": {"text": "{{ input.text }}"}}
```

`treadle_$name.py` is all of it: a config model, from which builders draw a form, and `execute`. What `execute` may do is in
`engine/sdk/node.py` of Treadle: `ctx.render` renders templates, `ctx.log` and `ctx.progress` tell how it gets on,
`ctx.text` streams text, and NodeFailure says what went wrong. A node may be run again after a crash, with the same
`ctx.idempotency_key`.
"""

FILES = {
    "pyproject.toml": PROJECT,
    "README.md": README,
    "treadle_$name.py": MODULE,
    "tests/test_$name.py": TEST,
}


class NewNodeError(Exception):
    """Nothing was written; reads as a sentence."""


def create(name: str, folder: Path) -> list[Path]:
    """Writes the package into `folder`, and returns what it wrote. Raises NewNodeError."""
    _check_name(name)
    cls = "".join(word.capitalize() for word in name.split("_"))
    values = {
        "name": name,
        "dashed": name.strip("_").replace("_", "-"),
        "cls": cls,
        "title": name.replace("_", " ").strip().capitalize(),
        "group": GROUP,
    }
    written = {folder / _filled(path, values): _filled(text, values) for path, text in FILES.items()}
    if there := [path for path in written if path.exists()]:
        raise NewNodeError(f"{there[0]} is there already; choose another name or --folder")
    try:
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as wrong:
        raise NewNodeError(f"{wrong.filename or folder} cannot be written: {wrong.strerror}") from wrong
    return list(written)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name.endswith("_"):
        raise NewNodeError(f"{name!r} is no name of a node type: write small letters, digits and _, such as send_fax")
    if name in {kind.name for kind in BUILT_IN}:
        raise NewNodeError(f"there is a node type {name!r} already, and a package cannot replace it")


def _filled(text: str, values: dict[str, str]) -> str:
    return Template(text).substitute(values)
