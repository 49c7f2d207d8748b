"""Executor of operations that collects the root fields of a subscription only once.

graphql-core (3.3.2) caches the collected subfields of a selection by the identity of the list of
field nodes that it belongs to. It collects the root fields again for every event of a subscription,
so these lists are new each time: no cache entry is ever reused, and the cache grows with every
event as long as the subscription lives. This executor reuses the root fields of the first event.
"""

from typing import Any

from graphql import GraphQLObjectType
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext


class SharedRootExecutor(StrawberryGraphQLCoreExecutionContext):
    """An executor whose copies, one for each event, share the collected root fields."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The executors of all events are shallow copies of this one, so they share the list.
        self._roots: list[Any] = []

    def execute_collected_root_fields(
        self, root_type: GraphQLObjectType, root_value: Any, grouped_field_set: Any, *rest: Any
    ) -> Any:
        if not self._roots:
            self._roots.append(grouped_field_set)
        return super().execute_collected_root_fields(root_type, root_value, self._roots[0], *rest)
