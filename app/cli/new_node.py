"""Write a package with a new node type, its test and its README, for `treadle new-node`.

The package imports from `treadle` only. Existing files are never overwritten.
"""

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
"""The node type `$name`. Replace this by one sentence about what it does."""

from typing import Any, ClassVar

from pydantic import Field

from treadle import NodeConfig, NodeContext, NodeFailure, NodeType, Output


class ${cls}Config(NodeConfig):
    """Builders draw a form from this model: give every field a title, a description and an example."""

    text: str = Field(
        title="Text",
        description="The text to write in capitals.",
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
            raise NodeFailure("CONFIG", f"`text` must be a text, not {text!r:.80}")
        return Output({"text": text.upper()})
'''

TEST = '''\
"""Tests of the node type `$name`."""

import asyncio

from treadle import Output
from treadle.testing import try_node
from treadle_$name import $cls


def test_it_writes_a_text_in_capitals() -> None:
    run = asyncio.run(try_node($cls(), {"text": "{{ input.name }}"}, {"input": {"name": "Ada"}}))
    assert run.error is None
    assert run.outcome == Output({"text": "ADA"})


def test_a_value_that_is_not_a_text_fails_the_node() -> None:
    run = asyncio.run(try_node($cls(), {"text": "{{ input.n }}"}, {"input": {"n": 5}}))
    assert run.error is not None and run.error.code == "CONFIG"


def test_the_example_config_works() -> None:
    run = asyncio.run(try_node($cls(), $cls.example, {"input": {"text": "hello"}}))
    assert run.outcome == Output({"text": "HELLO"})
'''

README = """\
# The node type `$name`

Adds nodes of the type `$name` to Treadle.

```sh
pip install -e .     # installs it into the environment of Treadle
pytest               # runs its tests
treadle doctor       # lists it under `node types`, or says why it cannot be loaded
```

Then restart the server and the workers. Both read the entry point `$group` when they start.

```json
{"id": "shout", "type": "$name", "config": {"text": "{{ input.text }}"}}
```

`treadle_$name.py` contains the config model, from which builders draw a form, and `execute`, which
runs one attempt of a node. In `execute`, `ctx.render` renders templates, `ctx.log` and
`ctx.progress` report to people, and `ctx.text` streams text. Raise NodeFailure if the node fails.
After a crash a node may run again, with the same `ctx.idempotency_key`.

The package `treadle` is the API for node types; `docs/extending.md` of Treadle describes it.
"""

FILES = {
    "pyproject.toml": PROJECT,
    "README.md": README,
    "treadle_$name.py": MODULE,
    "tests/test_$name.py": TEST,
}


class NewNodeError(Exception):
    """The package cannot be written. The message is a sentence for people."""


def create(name: str, folder: Path) -> list[Path]:
    """Write the package of a new node type.

    Args:
        name: The name of the node type, such as `send_fax`.
        folder: The folder of the package. It is created if it does not exist.

    Returns:
        The written files.

    Raises:
        NewNodeError: The name is not allowed, a file exists already, or the folder is not
            writable.
    """
    _check_name(name)
    cls = "".join(word.capitalize() for word in name.split("_"))
    values = {
        "name": name,
        "dashed": name.strip("_").replace("_", "-"),
        "cls": cls,
        "title": name.replace("_", " ").strip().capitalize(),
        "group": GROUP,
    }
    texts = {folder / _substitute(path, values): _substitute(text, values) for path, text in FILES.items()}
    if existing := [path for path in texts if path.exists()]:
        raise NewNodeError(f"{existing[0]} exists already; choose another name or --folder")
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NewNodeError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return list(texts)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name.endswith("_"):
        raise NewNodeError(
            f"{name!r} cannot be the name of a node type: use small letters, digits and _, such as send_fax"
        )
    if name in {kind.name for kind in BUILT_IN}:
        raise NewNodeError(f"{name!r} is a built-in node type, which a package cannot replace")


def _substitute(text: str, values: dict[str, str]) -> str:
    return Template(text).substitute(values)
