"""The documents of operations.graphql, by the name of the operation, each with the fragments that it uses."""

import re
from functools import cache
from importlib.resources import files

_DEFINITION = re.compile(r"^(query|mutation|subscription|fragment) (\w+)", re.MULTILINE)
_SPREAD = re.compile(r"\.\.\.(\w+)")


@cache
def document(name: str) -> str:
    """Return the document that has only this operation. Raises KeyError."""
    definitions = _definitions()
    used = [name]
    for definition in used:
        used += [spread for spread in dict.fromkeys(_SPREAD.findall(definitions[definition])) if spread not in used]
    return "\n".join(definitions[definition] for definition in used)


@cache
def _definitions() -> dict[str, str]:
    text = files("treadle.client").joinpath("operations.graphql").read_text("utf-8")
    starts = list(_DEFINITION.finditer(text))
    ends = [*(start.start() for start in starts[1:]), len(text)]
    return {start[2]: text[start.start() : end].strip() for start, end in zip(starts, ends, strict=True)}
