"""What a call costs the database, in statements, whichever pool they take."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import event

from persistence.db.database import Database


@asynccontextmanager
async def counted(database: Database) -> AsyncIterator[list[str]]:
    """The statements that go to the database meanwhile."""
    statements: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        statements.append(statement)

    # All that the pool will ever have, so that none opens a connection that nobody listens to.
    held = [await database.pool.acquire() for _ in range(database.pool.get_max_size())]
    for connection in held:
        connection.add_query_logger(lambda logged: statements.append(logged.query))
        await database.pool.release(connection)
    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)
