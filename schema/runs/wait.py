"""Waits of a run as clients see them: for a timer, an answer, a child run or the next attempt.

A run may have several at once.
"""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from engine.sdk.node import Answerers
from engine.states import WaitKind
from persistence.caller import Role
from persistence.runs.run import Run
from persistence.runs.waits import Wait
from resolvers.runs import signals
from schema.info import Info
from schema.scalars import JSON

if TYPE_CHECKING:
    from schema.runs.run import RunType

ParentWait = strawberry.Parent[Wait]


@strawberry.interface(name="Wait")
class WaitType:
    node_id: strawberry.ID
    since: datetime


@strawberry.type
class TimerWait(WaitType):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Wait) and value.kind is WaitKind.TIMER

    @strawberry.field
    @staticmethod
    def until(wait: ParentWait) -> datetime:
        assert wait.until is not None
        return wait.until


@strawberry.type(name="Answerers", description="Who may answer a question: callers to whom all of this applies.")
class AnswerersType:
    role: Role | None = strawberry.field(description="The least role in the project. Null: RUNNER, as for all answers.")
    subjects: list[str] = strawberry.field(description="The subjects of the callers. Empty: any.")
    except_starter: bool = strawberry.field(
        description="Whether the one who created or executed the run may not answer, also by an API key."
    )


@strawberry.type
class InputWait(WaitType):
    prompt: JSON | None
    schema: JSON | None = strawberry.field(description="JSON Schema of the answer.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Wait) and value.kind is WaitKind.INPUT

    @strawberry.field(graphql_type=strawberry.ID, description="Pass it to resumeRun, with the answer.")
    @staticmethod
    def wait_id(wait: ParentWait) -> str:
        return wait.id

    @strawberry.field(
        graphql_type=AnswerersType | None,
        description="Who may answer, as the node names them. Null: every caller who may control the run.",
    )
    @staticmethod
    def answerers(wait: ParentWait) -> Answerers | None:
        limits = wait.answerers
        return None if limits is None else replace(limits, role=None if limits.role is None else Role(limits.role))

    @strawberry.field(description="Whether you may answer. Others get the code FORBIDDEN.")
    @staticmethod
    async def may_answer(wait: ParentWait, info: Info) -> bool:
        return bool(await info.context.loaders.may_answer.load(wait.id))

    @strawberry.field
    @staticmethod
    def expires_at(wait: ParentWait) -> datetime | None:
        return wait.until


@strawberry.type(description="A wait for a run that the node has started. The node ends with that run.")
class RunWait(WaitType):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Wait) and value.kind is WaitKind.RUN

    @strawberry.field(graphql_type=Annotated["RunType", strawberry.lazy("schema.runs.run")] | None)
    @staticmethod
    async def run(wait: ParentWait, info: Info) -> Run | None:
        return await info.context.loaders.run.load(wait.child_run_id or "")


@strawberry.type(description="A wait of a RETRYING node for its next attempt, which begins at `until`.")
class RetryWait(WaitType):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Wait) and value.kind is WaitKind.RETRY

    @strawberry.field
    @staticmethod
    def until(wait: ParentWait) -> datetime:
        assert wait.until is not None
        return wait.until


@strawberry.type(description="A wait of a `wait_event` for an event, which `sendEvent` or a POST to its address sends.")
class EventWait(WaitType):
    schema: JSON | None = strawberry.field(description="JSON Schema of the payload.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Wait) and value.kind is WaitKind.EVENT

    @strawberry.field(description="The `name` of the event in `sendEvent`.")
    @staticmethod
    def name(wait: ParentWait) -> str:
        return wait.event_name or wait.node_id

    @strawberry.field(description="The `key` by which `sendEvent` to the workflow finds the run.")
    @staticmethod
    def key(wait: ParentWait) -> str | None:
        return wait.event_key

    @strawberry.field
    @staticmethod
    def expires_at(wait: ParentWait) -> datetime | None:
        return wait.until

    @strawberry.field(
        description="The signed address that takes the payload by POST, once. Runners see it: it is a credential."
    )
    @staticmethod
    async def callback_url(wait: ParentWait, info: Info) -> str | None:
        return await signals.callback_address(info.context, wait)


WAIT_TYPES = [TimerWait, InputWait, RunWait, RetryWait, EventWait]
