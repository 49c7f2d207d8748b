"""Counts and checksums of all tables of a database. Read only."""

import asyncpg

from app.cli.backup.manifest import TableSum

_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY 1
"""
# A sum of hashes, so the order of the rows does not matter. md5 is the same in all versions of Postgres.
_SUM = """
SELECT count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint), 0)::text FROM ONLY {} t
"""


async def table_names(connection: asyncpg.Connection) -> list[str]:
    """List the tables of all schemas but those of Postgres itself."""
    return [row[0] for row in await connection.fetch(_TABLES)]


async def table_sums(connection: asyncpg.Connection) -> dict[str, TableSum]:
    """Read every row of every table. The settings that texts depend on are those of the transaction."""
    settings = {"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "1"}
    for name, value in settings.items():
        await connection.execute("SELECT set_config($1, $2, true)", name, value)
    sums = {}
    for name in await table_names(connection):
        row = await connection.fetchrow(_SUM.format(name))
        assert row is not None
        sums[name] = TableSum(row[0], row[1])
    return sums


def differences(expected: dict[str, TableSum], found: dict[str, TableSum]) -> list[str]:
    """Say how the tables of two databases differ."""
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        before, after = expected.get(name), found.get(name)
        if before is None or after is None:
            lines.append(f"{name} is {'missing' if after is None else 'new'}")
        elif before.rows != after.rows:
            lines.append(f"{name} has {after.rows} rows instead of {before.rows}")
        elif before != after:
            lines.append(f"{name} has other content")
    return lines
