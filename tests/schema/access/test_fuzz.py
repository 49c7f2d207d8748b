"""Calls of every root field with values of the wrong type, out of range, forged or unstorable.

Each value of each call in `calls.py` is replaced in turn. The answer is a clear error or a result, never
a fault. `make fuzz` replaces it by every bad value; the suite by a few, the same ones every time.
"""

import asyncio
import base64
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis

from app.settings import Settings
from persistence.db.ids import Prefix, new_id
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from resolvers.context import Context
from schema.schema import schema
from tests.schema.access.calls import MUTATIONS, NESTED, QUERIES, SUBSCRIPTIONS, Call
from tests.schema.access.documents import ROOTS, Coverage, Selections, object_type, operation
from tests.schema.access.objects import cursors, fill, store_objects

SAMPLE = int(os.environ.get("TREADLE_FUZZ_VALUES", "1"))
"""Bad values for each place."""
CALLS = {"query": QUERIES, "mutation": MUTATIONS, "subscription": SUBSCRIPTIONS}


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


BAD = (
    None, True, 0, -1, 10**9, 2**31, 10**30, 1.5, 1e308, "", " ", "\0", "a\0b", "\ud800", "x" * 20_000, "ünï\u2028",
    "{{ 1/0 }}", "0", "{", "SELECT 1; --", "2026-01-01", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00",
    [], [[]], [None], [1, "a", {}], ["\0"], {}, {"a": {"b": []}}, {"__proto__": 1}, {"": None}, {"a": 10**400},
    {"a": "\ud800"}, new_id(Prefix.RUN), "run_x", f"prj_{'z' * 26}", f"run_{'0' * 26}/{'a' * 64}",
    cursor("run_1"), cursor(new_id(Prefix.WORKFLOW)), cursor("\0"), "====",
)  # fmt: skip
LEAKS = ("Traceback", "object at 0x", "asyncpg", "sqlalchemy", "NoneType", "Error(", "<class", "graphql.")
"""Text that no message has: terms of Python and of libraries."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values inside."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def with_value(value: Any, path: tuple[Any, ...], bad: Any) -> Any:
    """Return a copy of the value with another value at a path."""
    if not path:
        return bad
    copy = value.copy()
    copy[path[0]] = with_value(value[path[0]], path[1:], bad)
    return copy


async def execute(context: Context, root: str, call: Call, arguments: dict[str, Any], ids: dict[str, str]) -> Any:
    """Execute a call. Returns None for a subscription that has no result at once."""
    selections = Selections(fill(NESTED, ids) | {"cursors": cursors()}, Coverage())
    text = operation(
        root, call.name, arguments, selections.of(object_type(ROOTS[root]).fields[call.name].type, call.on)
    )
    if root != "subscription":
        return await schema.execute(text, variable_values=arguments, context_value=context)
    stream: Any = await schema.subscribe(text, variable_values=arguments, context_value=context)
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.wait({reading}, timeout=0.1)
    reading.cancel()
    [result] = await asyncio.gather(reading, return_exceptions=True)
    await stream.aclose()
    return None if isinstance(result, asyncio.CancelledError) else result


async def test_no_value_is_a_fault(context: Context, redis: Redis, tmp_path: Path) -> None:
    secrets = await open_secrets(context.database, KeySource.of(Settings(data_dir=tmp_path)))
    context.resources = {"secrets": secrets}
    [own] = await store_objects(context, redis, ["Project"])
    chosen, seen = random.Random(7), set[str]()
    for root, calls in CALLS.items():
        for call in calls:
            arguments = fill(call.arguments, own.ids)
            for path in places(arguments):
                for bad in chosen.sample(BAD, min(SAMPLE, len(BAD))):
                    wrong = with_value(arguments, path, bad)
                    result = await execute(own.admin, root, call, wrong, dict(own.ids))
                    which = f"{root} {call.name} with {bad!r} at {path}"
                    for error in [] if result is None else result.errors or []:
                        code = error.extensions["code"]
                        assert code != "INTERNAL", f"{which}: {error}"
                        assert not any(leak in error.message for leak in LEAKS), f"{which}: {error.message}"
                        seen.add(code)
                    assert result is None or orjson.dumps([result.data, [str(one) for one in result.errors or []]])
    assert {"VALIDATION", "NOT_FOUND"} <= seen
