"""The connections to Postgres: what their errors tell."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from persistence.db.database import Database


async def test_an_error_of_a_statement_does_not_repeat_its_values(database: Database) -> None:
    with pytest.raises(DBAPIError) as failed:
        async with database.connect() as connection:
            await connection.execute(text("SELECT 1 / (:zero)::int, :value"), {"zero": 0, "value": "an input of a run"})
    assert "an input of a run" not in f"{failed.value} {failed.value.orig}"
