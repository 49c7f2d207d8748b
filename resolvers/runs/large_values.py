"""Reads the large inputs and outputs of runs, which no row of a run contains.

Few are read at a time, in turns of projects: each of them may have 8 MiB. Nothing here writes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation.turns import FairSlots, current_owner, working_for
from engine.types import JSON
from persistence.db.json_text import LARGE_VALUE, JsonText, LargeValue
from persistence.problems import NotFound
from persistence.runs import run as runs
from persistence.runs.node_states import VersionGraph
from persistence.runs.run import Run
from resolvers.context import Context

_slots = FairSlots(4, share=2)


@asynccontextmanager
async def reading_large(context: Context) -> AsyncIterator[AsyncConnection]:
    """Open a connection to read one large value, when it is the turn of the current owner."""
    with working_for(current_owner.get()._replace(limit=None)):
        async with _slots.slot(), context.read() as connection:
            yield connection


async def run_value(context: Context, run: Run, name: Literal["inputs", "output"]) -> JSON | JsonText:
    """Return the inputs or the output of a run; a large value as its text. Raises NotFound."""
    stored: JSON | LargeValue = getattr(run, f"stored_{name}")
    if stored is not LARGE_VALUE:
        return stored
    async with reading_large(context) as connection:
        value = await runs.read_value(connection, run, name)
    if value is None and name == "inputs":
        raise NotFound(run.id)
    return value


async def with_values(context: Context, run: Run) -> Run:
    """Return the run with its large values, parsed."""
    if LARGE_VALUE not in (run.stored_inputs, run.stored_output):
        return run
    async with reading_large(context) as connection:
        return await runs.with_values(connection, run)


async def with_start_values(context: Context, graph: VersionGraph, run: Run) -> Run:
    """Return the run with its large values if its inputs decide which nodes it begins with."""
    return await with_values(context, run) if graph.has_start_conditions else run
