"""Nodes of type llm that are to give a value: it fits the schema, or is asked for once more, or is a clear error."""

import json

import pytest

from engine.sdk.node import Output
from tests.engine.llm_nodes import Asked

TICKET = {
    "type": "object",
    "properties": {"category": {"type": "string", "enum": ["billing", "technical"]}},
    "required": ["category"],
}
FITS = '{"category": "billing"}'


async def test_the_output_is_the_value_where_a_schema_is_given(asked: Asked) -> None:
    assert await asked.output("repeats", FITS, responseSchema=TICKET) == {"category": "billing"}
    assert asked.sent()["response_format"]["json_schema"]["schema"] == TICKET
    assert await asked.output("by-function", FITS, responseSchema=TICKET) == {"category": "billing"}
    assert asked.sent()["tools"][0]["function"]["parameters"] == TICKET
    assert await asked.output("by-prompt", FITS, responseSchema=TICKET) == {"category": "billing"}
    assert json.dumps(TICKET, separators=(",", ":")) in asked.sent()["messages"][0]["content"]


@pytest.mark.parametrize(
    "wrong", ['{"category": "weather"}', '{"category":', "Billing, I think", "[]", '{"category": NaN}']
)
async def test_a_value_that_does_not_fit_is_asked_for_once_more(asked: Asked, wrong: str) -> None:
    given = asked.given()
    config = {"model": "second-try", "prompt": f"{wrong}\n{FITS}", "responseSchema": TICKET}
    assert await given.run("llm", config) == Output({"category": "billing"})
    _, own, told = asked.sent()["messages"]
    assert own == {"role": "assistant", "content": wrong}
    assert told["content"].startswith("That does not fit: ")
    assert any("does not match the schema" in line for line in given.logged)
    assert given.state.usage is not None
    assert given.state.usage.input_tokens == 2000


async def test_a_value_that_never_fits_fails_with_what_is_wrong(asked: Asked) -> None:
    failed = await asked.failure("repeats", "weather", responseSchema=TICKET)
    assert (failed.code, failed.retryable) == ("MODEL_OUTPUT", True)
    assert "it is no JSON" in failed.message
    assert failed.details["answer"].startswith("That does not fit")
    assert len(asked.peer.seen) == 2


async def test_a_refusal_and_a_cut_answer_fail_a_structured_answer_at_once(asked: Asked) -> None:
    assert (await asked.failure("refuses", responseSchema=TICKET)).code == "MODEL_FILTERED"
    cut = await asked.failure("cut-short", FITS, responseSchema=TICKET)
    assert (cut.code, cut.retryable) == ("MODEL_OUTPUT", False)
    assert "max_tokens" in cut.message
    assert len(asked.peer.seen) == 2
