"""What a subscription keeps in memory does not grow with its events."""

from collections.abc import AsyncGenerator
from typing import Any

import strawberry

from schema.executor import SharingExecutor

EVENTS = 50
built: list["Watched"] = []


class Watched(SharingExecutor):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        built.append(self)


@strawberry.type
class Inner:
    number: int


@strawberry.type
class Outer:
    inner: Inner
    many: list[Inner]


@strawberry.type
class Query:
    nothing: int = 0


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def outer(self) -> AsyncGenerator[Outer, None]:
        for number in range(EVENTS):
            yield Outer(inner=Inner(number=number), many=[Inner(number=number), Inner(number=-number)])


schema = strawberry.Schema(Query, subscription=Subscription, execution_context_class=Watched)


async def test_every_event_is_answered_and_nothing_is_remembered_of_it() -> None:
    built.clear()
    remembered, numbers = [], []
    async for result in await schema.subscribe("subscription { outer { inner { number } many { number } } }"):
        assert result.data is not None
        outer = result.data["outer"]
        assert [one["number"] for one in outer["many"]] == [outer["inner"]["number"], -outer["inner"]["number"]]
        numbers.append(outer["inner"]["number"])
        remembered.append(sum(len(executor._relevant_sub_fields) for executor in built))
    assert numbers == list(range(EVENTS))
    assert remembered[0] == remembered[-1] > 0
