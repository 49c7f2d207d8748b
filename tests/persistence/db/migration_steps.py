"""Moves a database between the revisions of its schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from persistence import migrations
from persistence.db.database import create_engine


async def downgrade(url: str, revision: str = "0017") -> None:
    """Downgrade to a revision: by default to the last one before the partitions."""
    await _move(url, revision, is_up=False)


async def upgrade(url: str, revision: str) -> None:
    """Upgrade to a revision, in the transaction that `migrate` makes."""
    await _move(url, revision, is_up=True)


async def _move(url: str, revision: str, *, is_up: bool) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        (command.upgrade if is_up else command.downgrade)(config, revision)

    engine = create_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()
