"""The mutation `testNode`: its input, its payload, and their conversion."""

from datetime import datetime
from typing import cast

import strawberry

from engine.events import LogRecorded
from engine.runtime.single_node import SingleNodeRun
from engine.sdk.node import Output, WaitForAnswer, WaitForEvent, WaitUntil
from engine.states import LogLevel
from resolvers.runs import node_test
from schema.info import Info
from schema.payload import KeyedInput, Payload, keyed_mutation, payload
from schema.runs.node_state import RunErrorType, UsageType
from schema.scalars import JSON
from schema.spec import SAMPLE_CONTEXT


@strawberry.input
class TestNodeInput(KeyedInput):
    project_id: strawberry.ID | None = None
    type: str
    config: JSON
    context: JSON | None = strawberry.field(
        default=None,
        description=SAMPLE_CONTEXT + " `secrets` must be omitted: a test uses those of the project.",
    )


@strawberry.type(description="What the node would wait for in a run.")
class TestNodeWait:
    until: datetime | None = strawberry.field(description="When the timer ends or the question expires.")
    prompt: JSON | None
    schema: JSON | None = strawberry.field(description="JSON Schema of the answer.")


@strawberry.type
class TestNodePayload(Payload):
    output: JSON | None = None
    port: str | None = strawberry.field(
        default=None, description="The port that the node would leave by; null: every port but `error`."
    )
    input: JSON | None = strawberry.field(
        default=None, description="The input of the node, with its templates rendered."
    )
    waiting_for: TestNodeWait | None = strawberry.field(
        default=None, description="Set if the node would wait; it then has no output."
    )
    error: RunErrorType | None = None
    logs: list[str] = strawberry.field(default_factory=list)
    partial_output: str | None = strawberry.field(default=None, description="Text that the node has streamed.")
    thinking: str | None = strawberry.field(default=None, description="What a model thought before its answer.")
    finish_reason: str | None = strawberry.field(default=None, description="Why the model ended its last answer.")
    usage: UsageType | None = None
    duration_ms: float | None = None


@strawberry.type
class NodeTestMutations:
    @keyed_mutation
    @staticmethod
    async def test_node(info: Info, input: TestNodeInput) -> TestNodePayload:
        """Executes one node with the values in `context`, outside any run. Nothing is stored."""
        arguments = node_test.NodeTestArguments(
            input.project_id, input.type, input.config, {} if input.context is None else input.context
        )
        return _test_payload(await node_test.test_node(info.context, arguments))


def _test_payload(result: SingleNodeRun) -> TestNodePayload:
    output = result.outcome if isinstance(result.outcome, Output) else None
    return payload(
        TestNodePayload,
        output=None if output is None else output.value,
        port=None if output is None else output.port,
        input=result.input,
        waiting_for=_wait(result),
        error=result.error,
        logs=[_log_line(log) for log in result.logs],
        partial_output=result.partial_output,
        thinking=result.thinking,
        finish_reason=result.finish_reason,
        usage=result.usage,
        duration_ms=result.duration_ms,
    )


def _log_line(log: LogRecorded) -> str:
    return log.message if log.level is LogLevel.INFO else f"{log.level}: {log.message}"


def _wait(result: SingleNodeRun) -> TestNodeWait | None:
    match result.outcome:
        case WaitUntil(until):
            return TestNodeWait(until=until, prompt=None, schema=None)
        case WaitForAnswer(prompt, schema, expires_at):
            return TestNodeWait(until=expires_at, prompt=prompt, schema=schema)
        case WaitForEvent(name, _, schema, expires_at):
            return TestNodeWait(until=expires_at, prompt=cast(JSON, {"event": name}), schema=schema)
    return None
