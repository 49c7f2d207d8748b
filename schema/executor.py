"""How an operation is executed: as Strawberry does it, except that the events of a subscription share what they ask for.

graphql-core (3.3.2) remembers the collected fields of each selection by the identity of the list that it belongs to, and collects
the root anew for every event of a subscription: nothing is ever found again, and what is remembered grows with every event for
as long as the subscription lives. Here the root of the first event stands for those of all.
"""

from typing import Any

from graphql import GraphQLObjectType
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext


class SharingExecutor(StrawberryGraphQLCoreExecutionContext):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Shared by the executors of all events, which are shallow copies of this one.
        self._roots: list[Any] = []

    def execute_collected_root_fields(
        self, root_type: GraphQLObjectType, root_value: Any, grouped_field_set: Any, *rest: Any
    ) -> Any:
        if not self._roots:
            self._roots.append(grouped_field_set)
        return super().execute_collected_root_fields(root_type, root_value, self._roots[0], *rest)
