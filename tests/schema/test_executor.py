"""The memory of a subscription does not grow with its events."""

from collections.abc import AsyncGenerator
from typing import Any

import strawberry

from schema.execution.executor import BudgetedExecutor

EVENTS = 50
executors: list["RecordedExecutor"] = []


class RecordedExecutor(BudgetedExecutor):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        executors.append(self)


@strawberry.type
class Inner:
    number: int


@strawberry.type
class Outer:
    inner: Inner
    many: list[Inner]


@strawberry.type
class NoQuery:
    nothing: int = 0


@strawberry.type
class CountingSubscription:
    @strawberry.subscription
    async def outer(self) -> AsyncGenerator[Outer, None]:
        for number in range(EVENTS):
            yield Outer(inner=Inner(number=number), many=[Inner(number=number), Inner(number=-number)])


schema = strawberry.Schema(NoQuery, subscription=CountingSubscription, execution_context_class=RecordedExecutor)


async def test_every_event_is_sent_and_the_cache_of_subfields_does_not_grow() -> None:
    executors.clear()
    cached, numbers = [], []
    async for result in await schema.subscribe("subscription { outer { inner { number } many { number } } }"):
        assert result.data is not None
        outer = result.data["outer"]
        assert [item["number"] for item in outer["many"]] == [outer["inner"]["number"], -outer["inner"]["number"]]
        numbers.append(outer["inner"]["number"])
        cached.append(sum(len(executor._relevant_sub_fields) for executor in executors))
    assert numbers == list(range(EVENTS))
    assert cached[0] == cached[-1] > 0
