"""What a run waits for, as clients see it: a timer, or a person's answer. Parallel branches wait side by side."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from engine.states import WaitKind
from persistence.runs.run import Run as RunRow
from persistence.runs.waits import Wait as WaitRow
from schema.info import Info
from schema.scalars import JSON

if TYPE_CHECKING:
    from schema.runs.run import Run

Row = strawberry.Parent[WaitRow]


@strawberry.interface
class Wait:
    node_id: strawberry.ID
    since: datetime


@strawberry.type
class TimerWait(Wait):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, WaitRow) and value.kind is WaitKind.TIMER

    @strawberry.field
    @staticmethod
    def until(wait: Row) -> datetime:
        assert wait.until is not None
        return wait.until


@strawberry.type
class InputWait(Wait):
    prompt: JSON | None
    schema: JSON | None = strawberry.field(description="JSON Schema of the answer.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, WaitRow) and value.kind is WaitKind.INPUT

    @strawberry.field(graphql_type=strawberry.ID, description="Pass it to resumeRun.")
    @staticmethod
    def wait_id(wait: Row) -> str:
        return wait.id

    @strawberry.field
    @staticmethod
    def expires_at(wait: Row) -> datetime | None:
        return wait.until


@strawberry.type(description="A run that the node has started; its end is the node's.")
class RunWait(Wait):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, WaitRow) and value.kind is WaitKind.RUN

    @strawberry.field(graphql_type=Annotated["Run", strawberry.lazy("schema.runs.run")] | None)
    @staticmethod
    async def run(wait: Row, info: Info) -> RunRow | None:
        return await info.context.loaders.run.load(wait.child_run_id or "")


WAIT_TYPES = [TimerWait, InputWait, RunWait]
