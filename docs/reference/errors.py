"""Generates docs/errors.md from errors.toml (`make docs`).

Tests compare its codes with those of the code. Other pages link to its tables.
"""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

TEXTS = Path(__file__).with_name("errors.toml")
Texts = dict[str, dict[str, dict[str, str]]]
"""The columns of each code, by section and code."""
HEAD = """\
# Error codes

`make docs` generates this page from `docs/reference/errors.toml`. Codes are stable, so programs may compare them.
Messages are for people and may change.
"""
SECTIONS = {
    "request": (
        "Errors of requests",
        "Top-level errors have `extensions.code`, and the errors of a payload have `code`. A request over HTTP that no "
        "operation answers has the same codes in a body of RFC 9457 (`application/problem+json`).",
        ("cause", "remedy"),
    ),
    "node": (
        "Errors of nodes",
        "The `error` of a node state, and of a run if no edge leaves by the port `error`. [spec.md](spec.md#errors) "
        "says what `retryable` means and what `retry` repeats. A `fail` node fails with the code of its config, and a "
        "node type of a package with codes of its own.",
        ("types", "cause", "retryable", "remedy"),
    ),
    "run": (
        "Errors of runs",
        "A run also fails with codes of its own. `retryRun` starts it again, and `retryable` says whether that may "
        "help.",
        ("cause", "retryable", "remedy"),
    ),
    "spec": (
        "Problems of specs",
        "`validateSpec`, `saveDraft` and every other field that checks a spec give a list of problems. Each has a "
        "`field`, a `code` and a message ([spec.md](spec.md#problems)). A problem is an error, unless its cause "
        "begins with *warning*.",
        ("cause", "remedy"),
    ),
    "input": (
        "Problems of inputs",
        "The `errors` of a `ValidationProblem`, by the field of the input. A value that does not fit a JSON Schema, such "
        "as the `inputs` of a run, has the keyword of the schema as its code: `TYPE`, `REQUIRED`, `ENUM`, `MAXIMUM`, …",
        ("cause", "remedy"),
    ),
    "fork": (
        "Problems of forks",
        "`forkRun`, `retryRun` and `rewindRun` with a patch or another version. See [stepping.md](stepping.md).",
        ("cause", "remedy"),
    ),
}
"""The heading, the introduction and the columns of each section."""


def read_texts() -> Texts:
    """Return the texts of all codes."""
    return tomllib.loads(TEXTS.read_text("utf-8"))


def render_page() -> str:
    """Render the whole page as Markdown."""
    texts = read_texts()
    return HEAD + "".join("\n".join(["", *_section(name, texts[name])]) for name in SECTIONS)


def _section(name: str, codes: dict[str, dict[str, str]]) -> Iterator[str]:
    heading, introduction, columns = SECTIONS[name]
    yield f"## {heading}\n"
    yield f"{introduction}\n"
    yield f"| Code | {' | '.join(column.capitalize() for column in columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for code, texts in codes.items():
        yield f"| `{code}` | {' | '.join(_cell(texts, column) for column in columns)} |"
    yield ""


def _cell(texts: dict[str, str], column: str) -> str:
    prefix = "*warning:* " if column == "cause" and texts.get("severity") == "warning" else ""
    return prefix + texts[column]


if __name__ == "__main__":
    sys.stdout.write(render_page())
