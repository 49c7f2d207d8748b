"""Nodes of type llm that are to give a value: it fits the schema, or is asked for once more, or is a clear error."""

import json

import pytest

from engine.sdk.node import Output
from tests.engine.llm_nodes import LlmHarness

TICKET = {
    "type": "object",
    "properties": {"category": {"type": "string", "enum": ["billing", "technical"]}},
    "required": ["category"],
}
FITS = '{"category": "billing"}'


async def test_the_output_is_the_value_where_a_schema_is_given(llm: LlmHarness) -> None:
    assert await llm.output("repeats", FITS, responseSchema=TICKET) == {"category": "billing"}
    assert llm.sent()["response_format"]["json_schema"]["schema"] == TICKET
    assert await llm.output("by-function", FITS, responseSchema=TICKET) == {"category": "billing"}
    assert llm.sent()["tools"][0]["function"]["parameters"] == TICKET
    assert await llm.output("by-prompt", FITS, responseSchema=TICKET) == {"category": "billing"}
    assert json.dumps(TICKET, separators=(",", ":")) in llm.sent()["messages"][0]["content"]


@pytest.mark.parametrize(
    "wrong", ['{"category": "weather"}', '{"category":', "Billing, I think", "[]", '{"category": NaN}']
)
async def test_a_value_that_does_not_fit_is_asked_for_once_more(llm: LlmHarness, wrong: str) -> None:
    given = llm.given()
    config = {"model": "second-try", "prompt": f"{wrong}\n{FITS}", "responseSchema": TICKET}
    assert await given.run("llm", config) == Output({"category": "billing"})
    _, own, told = llm.sent()["messages"]
    assert own == {"role": "assistant", "content": wrong}
    assert told["content"].startswith("That does not fit: ")
    assert any("does not match the schema" in line for line in given.log_messages)
    assert given.state.usage is not None
    assert given.state.usage.input_tokens == 2000


async def test_a_value_that_never_fits_fails_with_what_is_wrong(llm: LlmHarness) -> None:
    failed = await llm.failure("repeats", "weather", responseSchema=TICKET)
    assert (failed.code, failed.retryable) == ("MODEL_OUTPUT", True)
    assert "it is no JSON" in failed.message
    assert failed.details["answer"].startswith("That does not fit")
    assert len(llm.peer.seen) == 2


async def test_a_refusal_and_a_cut_answer_fail_a_structured_answer_at_once(llm: LlmHarness) -> None:
    assert (await llm.failure("refuses", responseSchema=TICKET)).code == "MODEL_FILTERED"
    cut = await llm.failure("cut-short", FITS, responseSchema=TICKET)
    assert (cut.code, cut.retryable) == ("MODEL_OUTPUT", False)
    assert "max_tokens" in cut.message
    assert len(llm.peer.seen) == 2
