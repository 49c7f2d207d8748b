"""The tables in docs/triggers.md have exactly the fields of the built-in kinds, with their defaults."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from engine.sdk.trigger import TriggerConfig
from engine.triggers.registry import BUILT_IN
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "triggers.md").read_text()


def rows(model: type[TriggerConfig], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each field and its default as the page writes it; those of nested objects follow their field."""
    for name, field in model.model_fields.items():
        value: Any = field.get_default(call_default_factory=True) if not field.is_required() else None
        default = "none" if value is None else f"`{json.dumps(value)}`"
        yield prefix + name, "required" if field.is_required() else default
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, TriggerConfig):
                yield from rows(inner, f"{prefix}{name}.")


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.name)
def test_the_table_of_a_kind_has_every_field_with_its_default(kind: Any) -> None:
    section = PAGE.split(f"\n### {kind.name}\n")[1].split("\n## ")[0].split("\n### ")[0]
    table = section.split("| Field | Default | Meaning |\n|---|---|---|\n")[1].split("\n\n")[0]
    found = [re.fullmatch(r"\| `([\w.]+)` \| (.*?) \| .+ \|", line) for line in table.splitlines()]
    assert [(row[1], row[2]) for row in found if row] == list(rows(kind.Config))
    assert all(found)
