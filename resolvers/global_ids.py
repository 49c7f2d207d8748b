"""Anything by its global id: the prefix tells which loader to ask, so a list of ids costs a statement a kind."""

import asyncio

from persistence.db.ids import Prefix, prefix_of
from persistence.problems import invalid
from resolvers.context import Context

MAX_IDS = 100


async def node(context: Context, id: str) -> object | None:
    """None for an id that is not ours, names nothing, or names what the caller may not see."""
    match prefix_of(id):
        case Prefix.PROJECT:
            return await context.loaders.project.load(id)
        case Prefix.WORKFLOW:
            return await context.loaders.workflow.load(id)
        case Prefix.VERSION:
            return await context.loaders.version.load(id)
        case Prefix.RUN:
            return await context.loaders.run.load(id)
        case Prefix.CHECKPOINT:
            return await context.loaders.checkpoint.load(id)
        case _:
            return None


async def nodes(context: Context, ids: list[str]) -> list[object | None]:
    """In the order of `ids`."""
    if len(ids) > MAX_IDS:
        raise invalid("ids", "TOO_MANY", f"must be at most {MAX_IDS}, are {len(ids)}")
    return list(await asyncio.gather(*(node(context, id) for id in ids)))
