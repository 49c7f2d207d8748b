"""`testNode` as clients see it."""

from datetime import datetime

import strawberry

from engine.events import LogRecorded
from engine.runtime.single_node import SingleNodeRun
from engine.sdk.node import Output, WaitForAnswer, WaitUntil
from engine.states import LogLevel
from resolvers.runs import node_test
from schema.info import Info
from schema.payload import Payload, done, mutation
from schema.runs.node_state import RunError, Usage
from schema.scalars import JSON


@strawberry.input
class TestNodeInput:
    project_id: strawberry.ID | None = None
    type: str
    config: JSON
    context: JSON | None = strawberry.field(
        default=None,
        description="What templates may ask for: `{input, nodes: {id: {output}}}`, and `item`, `index` or `event`.",
    )


@strawberry.type(description="What a node would wait for in a run.")
class TestNodeWait:
    until: datetime | None = strawberry.field(description="When the timer is over, or the question expires.")
    prompt: JSON | None
    schema: JSON | None = strawberry.field(description="JSON Schema of the answer.")


@strawberry.type
class TestNodePayload(Payload):
    output: JSON | None = None
    port: str | None = strawberry.field(default=None, description="The port it would leave by; null: by every edge.")
    input: JSON | None = strawberry.field(default=None, description="What the node was given, with templates rendered.")
    waiting_for: TestNodeWait | None = strawberry.field(
        default=None, description="Set where the node would wait instead of having an output."
    )
    error: RunError | None = None
    logs: list[str] = strawberry.field(default_factory=list)
    partial_output: str | None = strawberry.field(default=None, description="Text that the node streamed.")
    usage: Usage | None = None
    duration_ms: float | None = None


@strawberry.type
class TrialMutations:
    @mutation
    @staticmethod
    async def test_node(info: Info, input: TestNodeInput) -> TestNodePayload:
        """Runs one node with the given input, outside any run. Nothing is stored."""
        ask = node_test.NodeTestArguments(
            input.project_id, input.type, input.config, {} if input.context is None else input.context
        )
        return _payload(await node_test.test_node(info.context, ask))


def _payload(tried: SingleNodeRun) -> TestNodePayload:
    output = tried.outcome if isinstance(tried.outcome, Output) else None
    return done(
        TestNodePayload,
        output=None if output is None else output.value,
        port=None if output is None else output.port,
        input=tried.input,
        waiting_for=_wait(tried),
        error=tried.error,
        logs=[_line(log) for log in tried.logs],
        partial_output=tried.partial_output,
        usage=tried.usage,
        duration_ms=tried.duration_ms,
    )


def _line(log: LogRecorded) -> str:
    return log.message if log.level is LogLevel.INFO else f"{log.level}: {log.message}"


def _wait(tried: SingleNodeRun) -> TestNodeWait | None:
    match tried.outcome:
        case WaitUntil(until):
            return TestNodeWait(until=until, prompt=None, schema=None)
        case WaitForAnswer(prompt, schema, expires_at):
            return TestNodeWait(until=expires_at, prompt=prompt, schema=schema)
    return None
