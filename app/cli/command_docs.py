"""Generates docs/commands.md from the commands (`make docs`).

A test checks that the committed page is up to date.
"""

import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from app.cli.main import app

HEAD = """\
# Commands

`make docs` generates this page from the command `treadle`, whose `--help` says the same. Commands that
talk to a server take `--url` and `--token`; without them they use the settings. `--json` prints one JSON
value for programs. A command that fails says why in one line and exits with 1; with wrong arguments it
exits with 2.
"""


def render_page() -> str:
    """Render the whole page as Markdown."""
    return HEAD + "".join(_sections(get_command(app), "treadle"))


def _sections(command: Any, path: str) -> Iterator[str]:
    """Yield the section of each command in the order of `--help`. A group has only those of its commands."""
    if not (subcommands := getattr(command, "commands", None)):
        yield _section(command, path)
        return
    for name, subcommand in subcommands.items():
        if not subcommand.hidden:
            yield from _sections(subcommand, f"{path} {name}")


def _section(command: Any, path: str) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    rows = "".join(_rows(command, context))
    table = f"\n| Parameter | Meaning |\n|---|---|\n{rows}" if rows else ""
    return f"\n## {path}\n\n{_text(command.help)}\n\n```text\n{usage}\n```\n{table}"


def _rows(command: Any, context: Any) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            names = ", ".join(f"`{_text(name)}`" for name in record[0].split(","))
            yield f"| {names} | {_text(record[1])} |\n"


def _text(help: str | None) -> str:
    return " ".join((help or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render_page())
