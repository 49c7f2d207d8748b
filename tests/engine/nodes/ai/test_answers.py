"""What a model answers in other forms than OpenAI: cut text, refusals, thinking, answers that are not streamed."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chat_models.thinking import ThinkingSplitter, split_unopened
from engine.errors import NodeFailure
from engine.sdk.node import Output
from tests.engine.node_runner import NodeHarness
from tests.engine.nodes.ai.llm_nodes import LlmHarness
from tests.engine.nodes.ai.scripted_answers import Chunks, called, failure, run, said
from tests.peers import chat_protocol

TICKET = {
    "type": "object",
    "properties": {"category": {"type": "string", "enum": ["billing", "technical"]}},
    "required": ["category"],
}


@pytest.mark.parametrize("kind", ["llm", "agent"])
@pytest.mark.parametrize(
    ("delta", "warned"),
    [
        ({"content": ""}, ["the answer of the model 'plain' is empty"]),
        ({"content": " \n"}, ["the answer of the model 'plain' is empty"]),
        ({"content": "<think>hm"}, ["the answer of the model 'plain' has only thinking and no text"]),
        ({"reasoning_content": "hm"}, ["the answer of the model 'plain' has only thinking and no text"]),
        ({"content": "0"}, []),
    ],
)
async def test_an_answer_without_text_has_a_warning(
    llm: LlmHarness, kind: str, delta: dict[str, Any], warned: list[str]
) -> None:
    _, harness = await run(llm, kind, said(delta))
    assert [message for message in harness.log_messages if "the answer of" in message] == warned


@pytest.mark.parametrize("kind", ["llm", "agent"])
async def test_a_cut_answer_fails_where_the_node_asks_for_it(llm: LlmHarness, kind: str) -> None:
    chunks = said({"content": "Half an ans"}, reason="length")
    failed = await failure(llm, kind, chunks, onTruncated="fail")
    assert (failed.code, failed.retryable) == ("MODEL_OUTPUT", False)
    assert "raise `max_tokens`" in failed.message
    assert len(llm.peer.seen) == 1
    value, harness = await run(llm, kind, chunks)
    assert (value["text"] if kind == "agent" else value) == "Half an ans"
    assert harness.state.finish_reason == "length"
    assert any("the answer is cut" in line for line in harness.log_messages)


@pytest.mark.parametrize("reason", ["stop", "end_turn", "eos"])
async def test_the_finish_reason_is_shown_as_the_endpoint_wrote_it(llm: LlmHarness, reason: str) -> None:
    value, harness = await run(llm, "agent", said({"content": "Hi"}, reason=reason))
    assert harness.state.finish_reason == value["finishReason"] == reason


# Refusals.

REFUSALS: dict[str, Chunks] = {
    "in pieces": said({"refusal": "no "}, {"refusal": "way"}),
    "by a filter": said({"content": "Well,"}, reason="content_filter"),
    "by a word of Google": said({"content": "Well,"}, reason="SAFETY"),
    "by a word of Anthropic": said(reason="refusal"),
}


@pytest.mark.parametrize("kind", ["llm", "agent", "structured"])
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_is_an_error(llm: LlmHarness, kind: str, name: str) -> None:
    more = {"responseSchema": TICKET} if kind == "structured" else {}
    failed = await failure(llm, "llm" if more else kind, REFUSALS[name], **more)
    assert (failed.code, failed.retryable) == ("MODEL_FILTERED", False)
    if name == "in pieces":
        assert failed.message == "the model 'plain' refuses: no way"
    assert len(llm.peer.seen) == 1


# Thinking.

THOUGHT = "let me see: 2 < 3"
THINKING: dict[str, Chunks] = {
    "reasoning_content": said(
        {"reasoning_content": "let me see"}, {"reasoning_content": ": 2 < 3"}, {"content": "Six"}
    ),
    "reasoning": said({"reasoning": THOUGHT, "reasoning_details": [{"text": THOUGHT}]}, {"content": "Six"}),
    "tags": said({"content": f"<think>{THOUGHT}</think>\n\nSix"}),
    "tags in pieces": said(*({"content": letter} for letter in f"\n<think>\n{THOUGHT}\n</think>\n\nSix")),
    "only the end tag": said({"content": f"{THOUGHT}\n</think>\n\nSix"}),
    "blocks": said(
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}]}, {"content": "Six"}
    ),
    "text blocks": said({"reasoning_content": THOUGHT, "content": [{"type": "text", "text": "Six"}]}),
}


@pytest.mark.parametrize("kind", ["llm", "agent"])
@pytest.mark.parametrize("name", THINKING)
async def test_thinking_is_kept_apart_from_the_answer(llm: LlmHarness, kind: str, name: str) -> None:
    value, harness = await run(llm, kind, THINKING[name])
    assert (value["text"] if kind == "agent" else value) == "Six"
    shown = harness.state.partial_output or ""
    assert (harness.state.thinking or "").strip() == THOUGHT
    if name == "only the end tag":  # known only at the end
        assert shown.endswith("Six")
    else:
        assert shown.strip() == "Six"
        assert "".join(delta.text for delta in harness.deltas).strip() == "Six"


@pytest.mark.parametrize("name", ["tags", "reasoning_content"])
async def test_thinking_is_not_repeated_to_the_model(llm: LlmHarness, name: str) -> None:
    chunks = [*THINKING[name][:-2], *called('{"text":"x"}')[1:]]
    await run(llm, "agent", chunks)
    assert THOUGHT not in json.dumps(llm.request()["messages"][1:])
    assert llm.request()["messages"][1]["tool_calls"]


async def test_a_secret_in_thinking_is_masked(llm: LlmHarness) -> None:
    key = "sk-secret-canary"
    _, harness = await run(llm, "llm", said(*({"reasoning_content": letter} for letter in key), {"content": "Six"}))
    assert harness.state.thinking == "•••"


LITERAL = [
    "Tags like <think> are used by models.",
    "Six <think>not at the start</think>",
    "The tag </think> ends it.",
    "<thinking>of the author's own prompt</thinking> Six",
    "<thi",
    "",
    "  Six",
]


@pytest.mark.parametrize("text", LITERAL)
async def test_other_text_about_tags_is_the_answer(llm: LlmHarness, text: str) -> None:
    value, harness = await run(llm, "llm", said(*({"content": letter} for letter in text)))
    assert (value, harness.state.thinking) == (text, None)


def split(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkingSplitter()
    parts = [*map(splitter.push, pieces), splitter.flush()]
    return "".join(text for text, _ in parts), "".join(thinking for _, thinking in parts)


PARTS = st.lists(st.sampled_from(["<think>", "</think>", "<", "th", "ink>", "</", "a", "\n", " "]), max_size=12)


@given(PARTS, st.lists(st.integers(0, 60), max_size=10))
def test_thinking_does_not_depend_on_how_the_stream_is_cut(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert split(pieces) == split([text]) == split(list(text))


@given(PARTS)
def test_thinking_and_answer_together_are_the_whole_text(parts: list[str]) -> None:
    text = "".join(parts)
    answer, thinking = split([text])
    assert sorted((answer + thinking).replace(" ", "").replace("\n", "")) == sorted(
        _without_leading_tags(text).replace(" ", "").replace("\n", "")
    )


def _without_leading_tags(text: str) -> str:
    if not text.lstrip().startswith("<think>"):
        return text
    thought, end, rest = text.lstrip()[len("<think>") :].partition("</think>")
    return thought + (_without_leading_tags(rest) if end else "")


def test_an_end_tag_alone_counts_only_on_a_line_of_its_own() -> None:
    assert split_unopened("a\n</think>\n\nb") == ("b", "a")
    assert split_unopened("</think>\nb") == ("b", "")
    assert split_unopened("a </think> b") == ("a </think> b", "")
    assert split_unopened("see <think>\n</think>\nb") == ("see <think>\n</think>\nb", "")


# Structured answers.

STRUCTURED: dict[str, str] = {
    "behind thinking": '<think>billing or technical? {"category": "technical"}</think>\n{"category": "billing"}',
    "behind thinking and in a fence": '<think>hm</think>\n```json\n{"category": "billing"}\n```',
    "in prose": 'Here is the answer: {"category": "billing"}. Anything else?',
    "in a fence in prose": 'Sure!\n```json\n{"category": "billing"}\n```\nAnything else?',
    "behind an example": 'As {"category": "technical"} does not apply, I say {"category": "billing"}',
    "before something else": 'I say {"category": "billing"}, from the set {billing, technical} or {"a": 1}',
}


@pytest.mark.parametrize("mode", ["json_schema", "prompt"])
@pytest.mark.parametrize("name", STRUCTURED)
async def test_a_structured_answer_is_found(llm: LlmHarness, mode: str, name: str) -> None:
    model = "prose" if mode == "json_schema" else "prose-by-prompt"
    messages = [{"role": "user", "content": "{% raw %}" + STRUCTURED[name] + "{% endraw %}"}]
    outcome = await llm.harness().run("llm", {"model": model, "messages": messages, "responseSchema": TICKET})
    assert outcome == Output({"category": "billing"})
    assert len(llm.peer.seen) == 1


async def test_a_cut_function_call_is_no_structured_answer(llm: LlmHarness) -> None:
    chunks = called('{"category": "billing', function={"name": "answer", "arguments": '{"category": "billing'})
    failed = await failure(llm, "llm", chunks, model="plain-by-function", responseSchema=TICKET)
    assert (failed.code, failed.retryable) == ("MODEL_OUTPUT", True)
    assert "it is no JSON object" in failed.message


# Endpoints that do not stream, and errors inside a response of status 200.

WHOLE = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": chat_protocol.USAGE}


def whole(message: dict[str, Any], reason: str | None = "stop") -> dict[str, Any]:
    return {**WHOLE, "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}]}


async def ask_body(llm: LlmHarness, body: str, **config: Any) -> tuple[Any, NodeHarness]:
    harness = llm.harness()
    messages = [{"role": "user", "content": "{% raw %}" + body + "{% endraw %}"}]
    outcome = await harness.run("llm", {"model": "body", "messages": messages, **config})
    assert isinstance(outcome, Output)
    return outcome.value, harness


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("reason", ["stop", None])
async def test_an_answer_that_is_not_streamed_is_accepted(llm: LlmHarness, indent: int | None, reason: Any) -> None:
    body = json.dumps(whole({"content": "Six\nor so", "reasoning_content": THOUGHT}, reason), indent=indent)
    value, harness = await ask_body(llm, body)
    assert value == "Six\nor so"
    assert (harness.state.partial_output, harness.state.thinking) == ("Six\nor so", THOUGHT)
    assert harness.state.usage is not None
    assert (harness.state.usage.input_tokens, harness.state.finish_reason) == (1000, "stop")


@pytest.mark.parametrize("body", ["", "data: "])
async def test_a_byte_order_mark_before_an_answer_is_skipped(llm: LlmHarness, body: str) -> None:
    text = json.dumps(whole({"content": "Six"})) if not body else _events("Six")
    value, _ = await ask_body(llm, "\ufeff" + text)
    assert value == "Six"


def _events(text: str) -> str:
    return b"".join(chat_protocol.text(text)).decode()


async def test_the_parts_of_an_answer_that_is_not_streamed_have_their_meaning(llm: LlmHarness) -> None:
    with pytest.raises(NodeFailure) as caught:
        await ask_body(llm, json.dumps(whole({"content": None, "refusal": "no way"})))
    assert caught.value.code == "MODEL_FILTERED"
    value, _ = await ask_body(llm, json.dumps(whole({"content": '{"category": "billing"}'})), responseSchema=TICKET)
    assert value == {"category": "billing"}
    _, harness = await ask_body(llm, json.dumps(whole({"content": "Half"}, "length")))
    assert any("the answer is cut" in line for line in harness.log_messages)


BODIES: list[tuple[str, str, bool, str]] = [
    ('{"error": {"message": "the engine is gone", "type": "server"}}', "MODEL_STREAM", True, "the engine is gone"),
    ('{"error": "model is loading"}', "MODEL_STREAM", True, "model is loading"),
    ('{"error": {"message": "slow down", "code": 429}}', "MODEL_RATE_LIMIT", True, "slow down"),
    ('{"error": {"message": "pay", "code": "insufficient_quota"}}', "MODEL_RATE_LIMIT", False, "no quota left"),
    ('{"error": {"message": "who?", "code": "401"}}', "MODEL_AUTH", False, "who?"),
    ('{"error": {"message": "none such", "code": "model_not_found"}}', "MODEL_UNKNOWN", False, "none such"),
    ('{"error": {"message": "boom", "code": 502}}', "MODEL_UNAVAILABLE", True, "boom"),
    ('{"error": {"reason": "odd"}}', "MODEL_STREAM", True, '{"reason":"odd"}'),
    ('{"message": "no route to the model"}', "MODEL_STREAM", True, "no route to the model"),
    ('{"detail": "Not authenticated"}', "MODEL_STREAM", True, "Not authenticated"),
    ('{"choices": [{"error": {"message": "upstream died", "code": 502}}]}', "MODEL_UNAVAILABLE", True, "upstream died"),
    ('{"choices": []}', "MODEL_STREAM", True, '{"choices": []}'),
    ("<html>Welcome to nginx</html>", "MODEL_STREAM", True, "<html>Welcome to nginx</html>"),
    ("upstream connect error", "MODEL_STREAM", True, "upstream connect error"),
    ('{"choices": [{"mess', "MODEL_STREAM", True, '{"choices": [{"mess'),
    ("[]", "MODEL_STREAM", True, "[]"),
]


@pytest.mark.parametrize(("body", "code", "retryable", "message"), BODIES)
async def test_what_an_endpoint_says_with_status_200_is_reported(
    llm: LlmHarness, body: str, code: str, retryable: bool, message: str
) -> None:
    with pytest.raises(NodeFailure) as caught:
        await ask_body(llm, body)
    failed = caught.value
    assert (failed.code, failed.retryable) == (code, retryable)
    assert message in failed.message
    assert "generation chunks" not in failed.message and "streaming" not in failed.message


async def test_a_whole_answer_that_is_too_large_is_not_read(llm: LlmHarness) -> None:
    failed = await llm.failure("gib-of-answer")
    assert (failed.code, "larger than" in failed.message) == ("MODEL_STREAM", True)
    assert llm.peer.written < 64 * 1024 * 1024
