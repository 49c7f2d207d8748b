"""`llm` nodes whose model fails, hangs or sends invalid responses: codes, retries and cancels."""

import asyncio
from typing import cast

import pytest

from engine.events import LogRecorded
from engine.graph.bound_node import BoundNode
from engine.isolation.suspension import suspendable
from engine.runtime.attempts import NodeResult, run_attempts
from engine.sdk.node import Output
from engine.spec.model import NodeSpec, Retry
from tests.engine.node_runner import TYPES
from tests.engine.nodes.ai.llm_nodes import LlmHarness
from tests.peers.http_protocol import MIB

FAILURES: list[tuple[str, str, bool, str]] = [
    ("busy", "MODEL_RATE_LIMIT", True, "slow down"),
    ("poor", "MODEL_RATE_LIMIT", False, "no quota left"),
    ("locked", "MODEL_AUTH", False, "refuses the key"),
    ("gone", "MODEL_UNKNOWN", False, "`model` and `base_url`"),
    ("full", "MODEL_CONTEXT", False, "shorten the prompt"),
    ("llama-full", "MODEL_CONTEXT", False, "shorten the prompt"),
    ("choosy", "MODEL_REQUEST", False, "Unsupported value: 'temperature'"),
    ("prude", "MODEL_FILTERED", False, "content filter"),
    ("prude-in-the-middle", "MODEL_FILTERED", False, "content filter"),
    ("sick", "MODEL_UNAVAILABLE", True, "overloaded"),
    ("moved", "MODEL_REQUEST", False, "302"),
    ("impatient", "MODEL_TIMEOUT", True, "sent nothing for too long"),
    ("impatient-with-drips", "MODEL_TIMEOUT", True, "sent nothing for too long"),
    ("impatient-with-silence", "MODEL_TIMEOUT", True, "sent nothing for too long"),
    ("breaks-off", "MODEL_STREAM", True, "lost the connection"),
    ("ends-early", "MODEL_STREAM", True, "cut off"),
    ("closes", "MODEL_STREAM", True, "lost the connection"),
    ("no-http", "MODEL_STREAM", True, "lost the connection"),
    ("no-json", "MODEL_STREAM", True, "cannot be parsed"),
    ("another-json", "MODEL_STREAM", True, "cannot be parsed"),
    ("a-page", "MODEL_STREAM", True, "cannot be parsed"),
    ("broken-utf8", "MODEL_STREAM", True, "cannot be parsed"),
    ("nothing", "MODEL_STREAM", True, "sent an empty answer"),
    ("says-error", "MODEL_STREAM", True, "the engine fell over"),
    ("lies-about-length", "MODEL_STREAM", True, "lost the connection"),
    ("gib", "MODEL_STREAM", True, "larger than"),
    ("gib-of-error", "MODEL_REQUEST", False, "refuses the request"),
    ("bomb", "MODEL_STREAM", True, "compressed"),
    ("unreachable", "MODEL_UNAVAILABLE", True, "cannot be reached"),
    ("nowhere", "MODEL_UNAVAILABLE", True, "cannot be reached"),
    ("unset", "MODEL_UNAVAILABLE", False, "NO_SUCH_VARIABLE is not set"),
    ("unset-url", "MODEL_UNAVAILABLE", False, "NO_SUCH_VARIABLE is not set"),
    ("odd-key", "MODEL_AUTH", False, "the key of the model 'odd-key'"),
    ("uninstalled", "MODEL_UNAVAILABLE", False, "pip install langchain-anthropic"),
    ("unheard-of", "MODEL_UNAVAILABLE", False, "nosuchprovider"),
    ("misconfigured", "MODEL_UNAVAILABLE", False, "n must be at least 1"),
    ("priecd", "MODEL_UNKNOWN", False, "did you mean 'priced'?"),
]


@pytest.mark.parametrize("model,code,retryable,message", FAILURES, ids=[failure[0] for failure in FAILURES])
async def test_each_failure_has_its_code_and_a_helpful_message(
    llm: LlmHarness, model: str, code: str, retryable: bool, message: str
) -> None:
    async with asyncio.timeout(30):
        failed = await llm.failure(model)
    assert (failed.code, failed.retryable) == (code, retryable)
    assert message in failed.message
    assert f"{model!r}" in failed.message
    assert "canary" not in f"{failed.message} {failed.details}"
    # The client library does not retry: the node does.
    assert llm.peer.count("/v1/chat/completions") <= 1
    assert llm.peer.written < 64 * MIB


async def test_a_key_that_an_endpoint_repeats_is_masked(llm: LlmHarness) -> None:
    harness = llm.harness()
    outcome = await harness.run("llm", {"model": "repeats", "prompt": "it is sk-secret-canary, is it not?"})
    harness.context.flush_text()
    assert isinstance(outcome, Output)
    assert harness.context.redact(outcome.value) == "it is •••, is it not?"
    assert "".join(delta.text for delta in harness.deltas) == "it is •••, is it not?"


async def test_the_retry_pause_of_the_endpoint_is_in_the_details(llm: LlmHarness) -> None:
    assert (await llm.failure("busy")).details == {"status": 429, "retryAfterS": 7.0}


async def test_the_retry_of_the_node_waits_as_long_as_the_endpoint_requests(llm: LlmHarness) -> None:
    result, pauses = await _attempted(llm, "busy-once", Retry(max_attempts=2, backoff_s=0.01))
    assert (result.outcome, pauses) == (Output("now"), [0.3])
    result, pauses = await _attempted(llm, "busy", Retry(max_attempts=3, backoff_s=0.01, max_s=0.05))
    assert (result.attempts, pauses) == (3, [0.05, 0.05])


@pytest.mark.parametrize("model", ["locked", "gone", "poor"])
async def test_a_permanent_failure_is_not_retried(llm: LlmHarness, model: str) -> None:
    result, pauses = await _attempted(llm, model, Retry(max_attempts=3))
    assert (result.attempts, pauses) == (1, [])


async def _attempted(llm: LlmHarness, model: str, retry: Retry) -> tuple[NodeResult, list[float]]:
    config = {"model": model, "prompt": "hi"}
    kind = TYPES["llm"]
    work = BoundNode(NodeSpec("n", "llm", config=config, retry=retry), kind, kind.Config.model_validate(config))
    harness = llm.harness()
    result = await suspendable(run_attempts(work, harness.context))
    lines = [event.fields for event in harness.events if isinstance(event, LogRecorded)]
    return result, [cast(float, fields["backoffS"]) for fields in lines if "backoffS" in fields]


@pytest.mark.parametrize("time", range(20))
async def test_the_time_limit_of_the_node_stops_an_endless_answer(llm: LlmHarness, time: int) -> None:
    """Repeated: the timeout may come together with a chunk of the answer and must not be lost."""
    await llm.output()  # the first call imports the client library, which is slow
    failed = await llm.failure("babbles", timeoutS=0.5)
    assert (failed.code, failed.retryable) == ("MODEL_TIMEOUT", True)
    assert "within 0.5 s" in failed.message
    await asyncio.wait_for(llm.peer.left.wait(), 60)


@pytest.mark.parametrize("model", ["hangs", "falls-silent", "drips", "babbles"])
async def test_a_cancel_closes_the_connection_and_keeps_the_partial_text(llm: LlmHarness, model: str) -> None:
    harness = llm.harness()
    running = asyncio.create_task(harness.run("llm", {"model": model, "prompt": "hi"}))
    await llm.peer.until(lambda: llm.peer.seen)
    if model in ("falls-silent", "babbles"):
        await asyncio.wait_for(harness.streamed.wait(), 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(llm.peer.left.wait(), 60)
    if model == "falls-silent":
        assert harness.state.partial_output == "Once upon"
