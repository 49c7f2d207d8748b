"""No message to a client has a term of Python or of a library: read from the source of all of them.

Messages that are made from values are tried by `test_fuzz.py`, `engine/nodes/test_bad_input.py`
and `engine/expressions/test_messages.py`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("app/server", "engine", "persistence", "resolvers", "schema")
CALLS = re.compile(
    r"(invalid|problem_response|RunError|FieldProblem|NodeFailure|SpecError|GraphQLError|Invalid|NotFound|Forbidden"
    r"|Conflict|InvalidState|Limit|Unauthenticated|Unavailable|ValueError|\w+(Problem|Refused))$"
)
"""The calls whose texts reach clients. Validators of pydantic raise ValueError."""
TERMS = re.compile(
    r"\b(None|True|False|dict|dictionary|tuple|str|int|float|bool|NoneType|kwargs|args|coroutine|iterable|traceback|exception"
    r"|asyncio|pydantic|asyncpg|sqlalchemy|strawberry|orjson|mapping|callable|dataclass|isinstance|Python object"
    r"|(Value|Type|Key|Attribute|Index|Runtime|Recursion|OS|Import)Error)\b"
)
FOR_AUTHORS_IN_PYTHON = {"engine/events.py"}
"""Modules whose ValueErrors name arguments of a call that the author of a node type has written."""


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the texts in the calls that make messages, with their lines."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and CALLS.search(ast.unparse(call.func)):
            for node in ast.walk(call):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.lineno, node.value


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_message_has_a_term_of_python(folder: str) -> None:
    found, count = [], 0
    for file in sorted((ROOT / folder).rglob("*.py")):
        path = file.relative_to(ROOT).as_posix()
        if path not in FOR_AUTHORS_IN_PYTHON:
            for line, text in messages(ast.parse(file.read_text())):
                count += " " in text
                found += [f"{path}:{line}: {text}"] if TERMS.search(text) else []
    assert found == []
    assert count > 10  # The scan finds the messages of each folder.
