"""The hash by which a repeated call is recognised, and the key that is stored with it."""

import pytest

from engine.types import JSON
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.problems import Conflict
from persistence.runs.idempotency import KeyTaken, arguments_hash, claim, find
from tests.journal_worker import accept_run


@pytest.mark.parametrize("value", [10**30, {"n": [10**30]}, "text", None, float("nan"), "\ud800"])
def test_any_arguments_have_a_hash_that_depends_on_each_value(value: JSON) -> None:
    first = arguments_hash("createRun", {"a": value, "b": 1})
    assert first == arguments_hash("createRun", {"b": 1, "a": value})
    others = [arguments_hash("createRun", {"a": value, "b": 2}), arguments_hash("createRun", {"a": 10**30 + 1, "b": 1})]
    assert len({first, *others, arguments_hash("retryRun", {"a": value, "b": 1})}) == 4


async def test_a_key_names_one_call_of_its_project(database: Database, caller: Caller, project: str) -> None:
    first, second = [(await accept_run(database, caller, project)).run for _ in range(2)]
    async with database.begin() as connection:
        assert await find(connection, project, "key", "hash 1") is None
        await claim(connection, project, "key", "hash 1", first.id)
    async with database.begin() as connection:
        assert await find(connection, project, "key", "hash 1") == first.id
        for other in ("a key", "other key"):
            assert await find(connection, project, other, "hash 1") is None
        for other in ("a project", "prj_other"):
            assert await find(connection, other, "key", "hash 1") is None
        with pytest.raises(Conflict, match="This idempotencyKey was used for a call with other arguments"):
            await find(connection, project, "key", "hash 2")
        await claim(connection, project, "other key", "hash 2", second.id)
    with pytest.raises(KeyTaken, match="key"):
        async with database.begin() as connection:
            await claim(connection, project, "key", "hash 1", second.id)
