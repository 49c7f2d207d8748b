"""Load objects by global id.

The prefix of an id selects its loader, so a list of ids costs one query a type.
"""

import asyncio
import re

from persistence.db.ids import Prefix, prefix_of
from persistence.problems import invalid
from resolvers.context import Context
from resolvers.runs.queries import NodeView, node_view, node_view_at

MAX_IDS = 100
NODE_STATE = re.compile(
    r"(?P<run>run_[0-9a-z]{26})/(?P<node>[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})(?:@(?P<seq>[0-9]{1,9}))?"
)


async def node(context: Context, id: str) -> object | None:
    """Return the object, or None if the id is invalid, unknown, or hidden from the caller."""
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
        case Prefix.TRIGGER:
            return await context.loaders.trigger.load(id)
        case Prefix.TRIGGER_EVENT:
            return await context.loaders.trigger_event.load(id)
        case Prefix.WEBHOOK_DELIVERY:
            return await context.loaders.webhook_delivery.load(id)
        case Prefix.ENDPOINT:
            return await context.loaders.endpoint.load(id)
        case Prefix.ALERT_RULE:
            return await context.loaders.alert_rule.load(id)
        case Prefix.THREAD:
            return await context.loaders.thread.load(id)
        case Prefix.DELIVERY:
            return await context.loaders.delivery.load(id)
        case Prefix.SIGNAL:
            return await context.loaders.signal.load(id)
        case Prefix.API_KEY:
            return await context.loaders.api_key.load(id)
        case Prefix.AUDIT_ENTRY:
            return await context.loaders.audit_entry.load(id)
        case Prefix.BULK_JOB:
            return await context.loaders.bulk_job.load(id)
        case Prefix.DRAFT:
            return await context.loaders.draft.load(Prefix.WORKFLOW + id.removeprefix(Prefix.DRAFT))
        case Prefix.SECRET:
            return await context.loaders.secret.load(id)
        case _:
            return await _node_state(context, id)


async def _node_state(context: Context, id: str) -> NodeView | None:
    """Return a node state by its id: that of its run, its node and, for a past one, its event."""
    parts = NODE_STATE.fullmatch(id)
    if parts is None or prefix_of(parts["run"]) is not Prefix.RUN:
        return None
    if parts["seq"] is None:
        return await node_view(context, parts["run"], parts["node"])
    return await node_view_at(context, parts["run"], parts["node"], int(parts["seq"]))


async def nodes(context: Context, ids: list[str]) -> list[object | None]:
    """Return the objects in the order of `ids`, as `node` does.

    Raises Invalid for more than MAX_IDS.
    """
    if len(ids) > MAX_IDS:
        raise invalid("ids", "TOO_MANY", f"must be at most {MAX_IDS}, are {len(ids)}")
    distinct = list(dict.fromkeys(ids))
    found = dict(zip(distinct, await asyncio.gather(*(node(context, id) for id in distinct)), strict=True))
    return [found[id] for id in ids]
