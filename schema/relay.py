"""The `Node` interface and connections, after the Relay cursor connections specification."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import strawberry

from persistence.db.pagination import COUNTED, Page
from schema.info import Info


@strawberry.interface(
    description="Anything with a global id, which `node` and `nodes` find. Ids are TypeIDs (`wf_01h4…`, `run_01h4…`): the "
    "prefix names the type, the rest sorts by creation time. A node state has the ids of its run and its node."
)
class Node:
    id: strawberry.ID


NodeT = TypeVar("NodeT")


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@dataclass(frozen=True, slots=True)
class _Edge:
    """The value of an Edge."""

    cursor: str
    node: Any


@strawberry.type
class Edge(Generic[NodeT]):
    cursor: str
    node: NodeT


@strawberry.type
class Connection(Generic[NodeT]):
    @strawberry.field(graphql_type=list[Edge[NodeT]])
    @staticmethod
    def edges(page: strawberry.Parent[Page[Any]]) -> list[_Edge]:
        return [_Edge(cursor, item) for cursor, item in zip(page.cursors, page.items, strict=True)]

    @strawberry.field(graphql_type=list[NodeT])
    @staticmethod
    def nodes(page: strawberry.Parent[Page[Any]]) -> list[Any]:
        return page.items

    @strawberry.field
    @staticmethod
    def page_info(page: strawberry.Parent[Page[Any]]) -> PageInfo:
        first, last = (page.cursors[0], page.cursors[-1]) if page.cursors else (None, None)
        return PageInfo(
            has_next_page=page.has_next, has_previous_page=page.has_previous, start_cursor=first, end_cursor=last
        )


@strawberry.type(name="Connection")
class CountedConnection(Connection[NodeT]):
    """A connection whose list can be counted. Only clients that ask for the count pay for it."""

    @strawberry.field
    @staticmethod
    async def total_count(page: strawberry.Parent[Page[Any]], info: Info) -> int:
        return min(await _total(page, info), COUNTED)

    @strawberry.field
    @staticmethod
    async def total_count_capped(page: strawberry.Parent[Page[Any]], info: Info) -> bool:
        return await _total(page, info) > COUNTED


async def _total(page: Page[Any], info: Info) -> int:
    if page.counted is None:
        return len(page.items)
    return await info.context.loaders.total.load(page.counted) or 0
