"""The hash by which a repeated call is recognised."""

import pytest

from engine.types import JSON
from persistence.runs.idempotency import arguments_hash


@pytest.mark.parametrize("value", [10**30, {"n": [10**30]}, "text", None, float("nan"), "\ud800"])
def test_any_arguments_have_a_hash_that_depends_on_each_value(value: JSON) -> None:
    first = arguments_hash("createRun", {"a": value, "b": 1})
    assert first == arguments_hash("createRun", {"b": 1, "a": value})
    others = [arguments_hash("createRun", {"a": value, "b": 2}), arguments_hash("createRun", {"a": 10**30 + 1, "b": 1})]
    assert len({first, *others, arguments_hash("retryRun", {"a": value, "b": 1})}) == 4
