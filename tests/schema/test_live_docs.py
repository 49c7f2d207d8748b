"""The GraphQL operations in the documents about live views are valid."""

import re
from pathlib import Path

import pytest
from graphql import parse, validate

from schema.schema import schema

ROOT = Path(__file__).parents[2]
OPERATION = re.compile(r"```graphql\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/live.md"])
def test_the_operations_are_valid(page: str) -> None:
    operations = OPERATION.findall((ROOT / page).read_text("utf-8"))
    assert operations
    for text in operations:
        assert validate(schema._schema, parse(text)) == [], text
