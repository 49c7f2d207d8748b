"""The check of `treadle doctor` for what the projects store. It reads the table of runs once, and changes nothing."""

import asyncpg

from app.settings import Settings
from persistence.db.database import dsn
from persistence.db.transient import DATABASE_ERRORS
from persistence.runs.queue_limit import largest_projects

WARNING_SHARE = 0.9
"""The share of its limit from which a project is reported."""
READ_S = 30.0
"""Timeout of the query, in seconds."""


async def check_storage(settings: Settings) -> tuple[bool, str]:
    """Name the projects whose runs store most, and those that are near TREADLE_PROJECT_STORAGE_MB."""
    if settings.database_url is None:
        return True, "not checked: no database is configured or running"
    try:
        connection = await asyncpg.connect(dsn(settings.database_url), timeout=READ_S)
        try:
            projects = await largest_projects(connection, READ_S)
        finally:
            await connection.close()
    except (*DATABASE_ERRORS, asyncpg.PostgresError):
        return True, "not checked: correct the database first, or the table of runs is too large to be read in 30 s"
    limit = settings.project_storage_mb
    listed = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in projects) or "no runs"
    full = [name for name, size in projects if limit is not None and size / 1e6 >= WARNING_SHARE * limit]
    if not full:
        return True, listed if limit is None else f"{listed}; {limit:,} MB for each project"
    return False, (
        f"{listed}: {', '.join(full)} may store {limit:,} MB (TREADLE_PROJECT_STORAGE_MB), and starts no run above it; "
        "delete runs, shorten TREADLE_RETENTION_HISTORY_DAYS, or raise the limit"
    )
