"""`llm` nodes with a response schema: matching values, second requests, clear failures."""

import json

import pytest

from engine.sdk.node import Output
from tests.engine.nodes.ai.llm_nodes import LlmHarness

TICKET = {
    "type": "object",
    "properties": {"category": {"type": "string", "enum": ["billing", "technical"]}},
    "required": ["category"],
}
FITS = '{"category": "billing"}'


async def test_with_a_schema_the_output_is_the_value(llm: LlmHarness) -> None:
    assert await llm.output("repeats", FITS, responseSchema=TICKET) == {"category": "billing"}
    assert llm.request()["response_format"]["json_schema"]["schema"] == TICKET
    assert await llm.output("by-function", FITS, responseSchema=TICKET) == {"category": "billing"}
    assert llm.request()["tools"][0]["function"]["parameters"] == TICKET
    assert await llm.output("by-prompt", FITS, responseSchema=TICKET) == {"category": "billing"}
    assert json.dumps(TICKET, separators=(",", ":")) in llm.request()["messages"][0]["content"]


@pytest.mark.parametrize(
    "invalid",
    [
        '{"category": "weather"}',
        '{"category":',
        "Billing, I think",
        "[]",
        '{"category": NaN}',
        '{"category": 18446744073709551617}',
    ],
)
async def test_a_value_that_does_not_match_is_requested_once_more(llm: LlmHarness, invalid: str) -> None:
    harness = llm.harness()
    config = {"model": "second-try", "prompt": f"{invalid}\n{FITS}", "responseSchema": TICKET}
    assert await harness.run("llm", config) == Output({"category": "billing"})
    _, previous, correction = llm.request()["messages"]
    assert previous == {"role": "assistant", "content": invalid}
    assert correction["content"].startswith("That does not fit: ")
    assert any("does not match the schema" in line for line in harness.log_messages)
    assert harness.state.usage is not None
    assert harness.state.usage.input_tokens == 2000


async def test_a_number_beyond_64_bits_in_an_answer_is_never_rounded(llm: LlmHarness) -> None:
    schema = {"type": "object", "properties": {"id": {"type": "number"}}}
    for name in ("repeats", "by-function", "by-prompt", "fenced"):
        failed = await llm.failure(name, '{"id": 18446744073709551617}', responseSchema=schema)
        assert failed.code == "MODEL_OUTPUT"
    assert await llm.output("repeats", '\ufeff{"id": 1}', responseSchema=schema) == {"id": 1}


async def test_a_value_that_never_matches_fails_with_the_mismatch(llm: LlmHarness) -> None:
    failed = await llm.failure("repeats", "weather", responseSchema=TICKET)
    assert (failed.code, failed.retryable) == ("MODEL_OUTPUT", True)
    assert "it is no JSON" in failed.message
    assert failed.details["answer"].startswith("That does not fit")
    assert len(llm.peer.seen) == 2


async def test_a_refused_or_cut_structured_answer_fails_at_once(llm: LlmHarness) -> None:
    assert (await llm.failure("refuses", responseSchema=TICKET)).code == "MODEL_FILTERED"
    cut = await llm.failure("cut-short", FITS, responseSchema=TICKET)
    assert (cut.code, cut.retryable) == ("MODEL_OUTPUT", False)
    assert "max_tokens" in cut.message
    assert len(llm.peer.seen) == 2
