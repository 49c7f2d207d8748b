"""Counts the SQL statements that a call sends to the database, through both of its pools."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import event

from persistence.db.database import Database


@asynccontextmanager
async def count_statements(database: Database) -> AsyncIterator[list[str]]:
    """Yield a list to which every statement is appended that is sent inside the block."""
    statements: list[str] = []

    def append(_c: object, _k: object, statement: str, *_: object) -> None:
        statements.append(statement)

    async with database.read([]):  # The first read inspects the policies of the database.
        pass
    # All connections that the asyncpg pool can have: a connection opened later would have no
    # logger.
    connections = [await database.pool.acquire() for _ in range(database.pool.get_max_size())]
    for connection in connections:
        connection.add_query_logger(lambda record: statements.append(record.query))
        await database.pool.release(connection)
    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", append)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", append)
