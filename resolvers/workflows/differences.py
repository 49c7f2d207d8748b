"""Compare two versions or drafts. Nothing here writes."""

from engine.isolation.computation import compute
from engine.isolation.turns import Owner, QueueFull, working_for
from engine.spec.diff import SpecDiff, spec_diff
from engine.types import JSON
from persistence.db.ids import Prefix, prefix_of
from persistence.db.response_budget import reserve
from persistence.problems import NotFound, TooManyEvaluations
from resolvers.context import Context

MAX_WAITING = 8
"""Comparisons of one caller that may wait for their turn. Further ones are refused."""


async def diff_versions(context: Context, from_id: str, to_id: str) -> SpecDiff:
    """Compare two versions, or drafts, also of different workflows.

    Raises:
        NotFound: One of them does not exist, or is hidden from the caller.
        TooManyEvaluations: MAX_WAITING comparisons of the caller wait already.
        Limit: The differences do not fit into the response.
    """
    before, after = [await _spec(context, id) for id in (from_id, to_id)]
    diff = await compare_specs(context, before, after)
    counts = [
        len(diff.other),
        *(1 + len(one.fields) for one in diff.nodes),
        *(1 + len(one.fields) for one in diff.edges),
    ]
    reserve(sum(counts))
    return diff


async def compare_specs(context: Context, before: JSON, after: JSON) -> SpecDiff:
    """Compare two specs in a thread, when it is the turn of the caller. Raises TooManyEvaluations."""
    subject = context.caller.subject
    with working_for(Owner(subject, subject, MAX_WAITING)):
        try:
            return await compute(spec_diff, before, after)
        except QueueFull as full:
            raise TooManyEvaluations(f"The specs were not compared, because {full}. Try again.") from None


async def _spec(context: Context, id: str) -> JSON:
    match prefix_of(id):
        case Prefix.VERSION:
            version = await context.loaders.version.load(id)
            found = None if version is None else version.spec
        case Prefix.DRAFT:
            draft = await context.loaders.draft.load(Prefix.WORKFLOW + id.removeprefix(Prefix.DRAFT))
            found = None if draft is None else draft.spec
        case _:
            found = None
    if found is None:
        raise NotFound(id)
    return found
