"""Generates docs/settings.md from the settings (`make docs`).

A test checks that the committed page is up to date.
"""

import sys
from pathlib import Path
from typing import Any

from app.retention_settings import RetentionSettings
from app.settings import PREFIX, Settings
from app.sign_in_settings import SignInSettings

HEAD = """\
# Settings

`make docs` generates this page from `app/settings.py`. Settings are environment variables, or lines
of a file `.env` in the working folder. An empty variable counts as unset, so that its default
applies. A setting whose default is a number and that may be `never` says so. Each bad value stops the
start with one line. Every process reports unknown names at its start (`settings.unknown`), and so
does `treadle doctor`. All servers and workers of a deployment must have the same stores, secret keys
and catalog; the other settings may differ from process to process.

| Variable | Default | Unit | Effect, and when to change it |
|---|---|---|---|
"""
UNITS = {"_s": "seconds", "_days": "days", "_mb": "MiB"}
"""Units by the end of the name."""
COMPUTED = {"sandbox_processes": "cores, 2 to 4"}
"""Defaults that depend on the machine."""


def render_page() -> str:
    """Render the whole page as Markdown."""
    inherited = [*RetentionSettings.model_fields, *SignInSettings.model_fields]
    own = [name for name in Settings.model_fields if name not in inherited]
    return HEAD + "".join(map(_row, [*own, *inherited]))


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    text = (field.description or "").replace("|", "\\|")
    return f"| `{PREFIX}{name.upper()}` | {_default(name, field.default)} | {_unit(name)} | {text} |\n"


def _default(name: str, default: Any) -> str:
    if name in COMPUTED:
        return COMPUTED[name]
    if default is None or default == "":
        return "never" if name.startswith("retention_") else "none"
    shown = default.as_posix() if isinstance(default, Path) else default
    return f"`{shown}`"


def _unit(name: str) -> str:
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


if __name__ == "__main__":
    sys.stdout.write(render_page())
