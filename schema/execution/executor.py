"""Executor of operations: it counts what a response contains, and shares the event loop with others.

graphql-core completes a response in one synchronous piece of work, unless a resolver waits. This
executor completes lists in slices of the event loop (engine/isolation/loop_share.py), and counts
objects and bytes in the budget of the response, which stops at its limits.

graphql-core (3.3.2) caches the collected subfields of a selection by the identity of the list of
field nodes that it belongs to. It collects the root fields again for every event of a subscription,
so these lists are new each time: no cache entry is ever reused, and the cache grows with every
event as long as the subscription lives. This executor reuses the root fields of the first event.
"""

from collections.abc import Awaitable, Coroutine, Iterable, Iterator
from inspect import iscoroutine
from typing import Any

import orjson
from graphql import GraphQLLeafType, GraphQLObjectType, GraphQLOutputType, located_error
from graphql.pyutils import Path, gather_with_cancel
from graphql.type.definition import GraphQLResolveInfoHelpers
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from engine.isolation.loop_share import loop_share
from persistence.db.json_text import JsonText
from persistence.db.response_budget import ResponseBudget, begin_response

SMALL = 256
"""Objects of a response that are completed without a pause."""
SMALL_BYTES = 64 * 1024
"""Bytes of its values, likewise: one value may have 8 MiB, which take 20 ms and more."""
CHUNK = 250
"""Items of a list whose resolvers wait at the same time. Each of them needs several objects, and a full
garbage collection blocks the event loop for the longer, the more objects there are."""
FIELD_BYTES = 16
"""Bytes that a field counts in addition to its text: its name and punctuation."""


class BudgetedExecutor(StrawberryGraphQLCoreExecutionContext):
    """An executor with a budget for each response.

    Its copies, one for each event of a subscription, share the collected root fields.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The executors of all events are shallow copies of this one, so they share the list.
        self._roots: list[Any] = []
        self.share = loop_share()
        self.budget = ResponseBudget()

    @property
    def async_helpers(self) -> GraphQLResolveInfoHelpers:
        """Make the helpers for resolvers when they are needed.

        graphql-core stores them: a cycle of references, which keeps everything that the operation has used
        until a garbage collection.
        """
        return GraphQLResolveInfoHelpers(self.gather_async_work, self.track_async_work)

    @async_helpers.setter
    def async_helpers(self, _: GraphQLResolveInfoHelpers) -> None:
        return None

    def execute_operation(self, serially: bool | None = None) -> Any:
        self.budget = begin_response()
        return super().execute_operation(serially)

    def execute_collected_root_fields(
        self, root_type: GraphQLObjectType, root_value: Any, grouped_field_set: Any, *rest: Any
    ) -> Any:
        if not self._roots:
            self._roots.append(grouped_field_set)
        return super().execute_collected_root_fields(root_type, root_value, self._roots[0], *rest)

    def collect_and_execute_subfields(self, *args: Any) -> Any:
        self.budget.add_object()
        return super().collect_and_execute_subfields(*args)

    @property
    def must_wait(self) -> bool:
        """Whether this response has to wait for a later pass of the event loop.

        A small response never waits, so that the loads of all of its fields become one statement.
        """
        return (self.budget.objects > SMALL or self.budget.size > SMALL_BYTES) and self.share.is_used_up

    def complete_leaf_value(self, return_type: GraphQLLeafType, result: Any) -> Any:  # type: ignore[override]
        value = super().complete_leaf_value(return_type, result)
        if isinstance(value, JsonText):
            self.budget.add_bytes(FIELD_BYTES + len(value.text))
            return orjson.Fragment(value.text)
        self.budget.add_bytes(FIELD_BYTES + _size(value))
        return value

    def handle_field_error(self, raw_error: Exception, return_type: Any, details: Any, path: Path) -> None:
        """Fail the whole response at its limit, instead of a null for every field that follows."""
        if self.budget.is_exceeded:
            raise located_error(raw_error, [field.node for field in details], path.as_list())
        super().handle_field_error(raw_error, return_type, details, path)

    async def complete_awaitable_value(
        self, return_type: Any, details: Any, info: Any, path: Path, result: Any, position_context: Any
    ) -> Any:
        """Do the same as graphql-core, but begin and go on in turns: thousands of fields may be due at once."""
        try:
            if self.must_wait:
                await self.share.turn()
            resolved = await result
            if self.must_wait:
                await self.share.turn()
            completed = self.complete_value(return_type, details, info, path, resolved, position_context)
            return await completed if self.is_awaitable(completed) else completed
        except Exception as error:
            self.handle_field_error(error, return_type, details, path)
            return None

    async def in_turn(self, completion: Awaitable[Any]) -> Any:
        """Await the completion of an item, which begins when it is its turn."""
        if self.must_wait:
            try:
                await self.share.turn()
            except BaseException:
                if iscoroutine(completion):
                    completion.close()
                raise
        return await completion

    def complete_iterable_value(
        self,
        item_type: GraphQLOutputType,
        field_details_list: Any,
        info: Any,
        path: Path,
        items: Iterable[Any],
        position_context: Any,
    ) -> Any:
        return _ListCompletion(self, item_type, field_details_list, info, path, position_context).complete(iter(items))


def _size(value: Any) -> int:
    """Return the size of a leaf as JSON, about."""
    if isinstance(value, str):
        return len(value)
    return len(orjson.dumps(value)) if isinstance(value, dict | list) else 0


class _ListCompletion:
    """The completion of one list: in one piece if it is short, else in slices."""

    def __init__(
        self, executor: BudgetedExecutor, item_type: Any, details: Any, info: Any, path: Path, position: Any
    ) -> None:
        self._executor, self._path = executor, path
        self._arguments = item_type, details, info
        self._position = position
        self._results: list[Any] = []
        self._awaitable: list[int] = []
        """The indices of the results that are awaitable."""

    def complete(self, items: Iterator[Any]) -> Any:
        """Return the completed items, or a coroutine of them."""
        try:
            for item in items:
                self._add(item)
                if self._executor.must_wait or len(self._awaitable) >= CHUNK:
                    return self._complete_rest(items)
        except Exception:
            self._settle()
            raise
        return self._gathered() if self._awaitable else self._results

    async def _complete_rest(self, items: Iterator[Any]) -> list[Any]:
        try:
            await self._executor.share.turn()
            for item in items:
                if len(self._awaitable) >= CHUNK:
                    await self._gathered()
                self._add(item)
                if self._executor.must_wait:
                    await self._executor.share.turn()
        except Exception:
            self._settle()
            raise
        except BaseException:  # The operation was cancelled.
            self._close()
            raise
        return await self._gathered()

    def _add(self, item: Any) -> None:
        executor, (item_type, details, info) = self._executor, self._arguments
        index = len(self._results)
        path = self._path.add_key(index, None)
        if executor.is_awaitable(item):
            completed = executor.complete_awaitable_list_item_value(
                item, item_type, details, info, path, self._position
            )
            self._results.append(completed)
            self._awaitable.append(index)
        elif executor.complete_list_item_value(item, self._results, item_type, details, info, path, self._position):
            self._awaitable.append(index)

    async def _gathered(self) -> list[Any]:
        if self._awaitable:
            values = await gather_with_cancel(
                *(self._executor.in_turn(self._results[index]) for index in self._awaitable)
            )
            for index, value in zip(self._awaitable, values, strict=True):
                self._results[index] = value
            self._awaitable = []
        return self._results

    def _settle(self) -> None:
        """Let awaitable items end in the background after an error of another item."""
        if self._awaitable:
            self._executor.settle_in_background([self._results[index] for index in self._awaitable])

    def _close(self) -> None:
        pending: list[Coroutine[Any, Any, Any]] = [self._results[index] for index in self._awaitable]
        for coroutine in pending:
            if iscoroutine(coroutine):
                coroutine.close()
