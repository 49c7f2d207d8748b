"""Nodes of type llm, by the real client library against a server on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from engine.attempts import Result, attempt
from engine.catalog_file import ModelEntry
from engine.events import Usage
from engine.models.catalog import Models, open_models
from engine.nodes.base import NodeFailure, Output
from engine.spec import NodeSpec, Retry
from engine.tools.catalog import Tools, open_tools
from engine.work import Work
from tests.engine.given import TYPES, Given
from tests.peers import chat
from tests.peers.http import MIB, Peer, http_peer

TICKET = {
    "type": "object",
    "properties": {"category": {"type": "string", "enum": ["billing", "technical"]}},
    "required": ["category"],
}
FITS = '{"category": "billing"}'
PRICE = {"input": 2.0, "output": 10.0, "cached_input": 0.5}


class Asked:
    """A peer, a catalog that has every model of it, and nodes that ask them."""

    def __init__(self, peer: Peer, models: Models, tools: Tools) -> None:
        self.peer, self.models = peer, models
        self.resources = {"models": models, "tools": tools}

    def given(self, **scope: Any) -> Given:
        return Given(scope, self.resources)

    async def output(self, model: str = "repeats", prompt: Any = "hi", **config: Any) -> Any:
        outcome = await self.given().run("llm", {"model": model, "prompt": prompt, **config})
        assert isinstance(outcome, Output)
        return outcome.value

    async def failure(self, model: str, prompt: Any = "hi", **config: Any) -> NodeFailure:
        with pytest.raises(NodeFailure) as caught:
            await self.output(model, prompt, **config)
        return caught.value

    def sent(self, index: int = -1) -> dict[str, Any]:
        return chat.asked(self.peer.seen[index])


def entry(name: str, url: str, **more: Any) -> ModelEntry:
    return ModelEntry.model_validate({"name": name, "base_url": f"{url}/v1", "api_key": "sk-secret-canary", **more})


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    async with http_peer() as peer, open_tools({}) as tools:
        entries = [entry(name, peer.url) for name in chat.MODELS]
        entries += [
            entry("priced", peer.url, model="repeats", price=PRICE),
            entry("impatient", peer.url, model="falls-silent", timeout_s=0.2),
            entry("impatient-with-drips", peer.url, model="drips", timeout_s=0.2),
            entry("impatient-with-silence", peer.url, model="hangs", timeout_s=0.2),
            entry("by-prompt", peer.url, model="fenced", structured_output="prompt"),
            entry("by-function", peer.url, model="answers-by-function", structured_output="function_calling"),
            entry("modern", peer.url, model="repeats", max_tokens_field="max_completion_tokens"),
            entry("nobody", "http://127.0.0.1:1"),
            entry("nowhere", "http://nowhere.invalid"),
            entry("unset", peer.url, api_key="${NO_SUCH_VARIABLE}"),
            entry("unset-url", peer.url, base_url="${NO_SUCH_VARIABLE}"),
            entry("odd-key", peer.url, api_key="schlüssel"),
            entry("uninstalled", peer.url, provider="anthropic"),
            entry("unheard-of", peer.url, provider="nosuchprovider"),
            entry("misconfigured", peer.url, options={"n": 0}),
        ]
        async with open_models(entries) as models:
            yield Asked(peer, models, tools)


async def test_the_output_is_the_text_and_it_streams_as_it_comes(asked: Asked) -> None:
    given = asked.given(input={"topic": "rain"})
    config = {"model": "repeats", "prompt": "A poem about {{ input.topic }}", "system": "Be short."}
    outcome = await given.run("llm", config)
    assert outcome == Output("A poem about rain")
    assert type(outcome.value) is str
    assert [delta.text for delta in given.texts[:2]] == ["A po", "em a"]
    assert "".join(delta.text for delta in given.texts) == "A poem about rain"
    assert given.state.partial_output == "A poem about rain"
    assert asked.sent()["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "A poem about rain"},
    ]
    assert asked.peer.seen[-1].headers["authorization"] == "Bearer sk-secret-canary"


async def test_what_it_was_told_is_shown_as_its_input(asked: Asked) -> None:
    given = asked.given(input=1)
    await given.run("llm", {"model": "repeats", "prompt": "Is {{ input }} prime?"})
    assert given.context.noted_input == {
        "model": "repeats",
        "messages": [{"role": "user", "content": "Is 1 prime?"}],
    }


async def test_a_conversation_may_be_given_by_a_template(asked: Asked) -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    outcome = await asked.given(input=said).run("llm", {"model": "repeats", "messages": "{{ input }}"})
    assert outcome == Output("c")
    assert asked.sent()["messages"] == said


async def test_a_prompt_that_is_no_text_is_given_as_json(asked: Asked) -> None:
    given = asked.given(input={"a": [1, None]})
    assert await given.run("llm", {"model": "repeats", "prompt": "{{ input }}"}) == Output('{"a":[1,null]}')


async def test_what_it_took_and_what_that_cost_is_told(asked: Asked) -> None:
    given = asked.given()
    await given.run("llm", {"model": "priced", "prompt": "hi"})
    assert given.state.usage == Usage("priced", 1000, 200, pytest.approx((600 * 2 + 400 * 0.5 + 200 * 10) / 1e6))
    given = asked.given()
    await given.run("llm", {"model": "tells-no-usage", "prompt": "hi"})
    assert given.state.usage == Usage("tells-no-usage", 0, 0, None)


async def test_the_limit_of_tokens_has_the_name_that_the_endpoint_knows(asked: Asked) -> None:
    await asked.output("repeats", max_tokens=7, temperature=0.5)
    assert (asked.sent()["max_tokens"], asked.sent()["temperature"]) == (7, 0.5)
    assert "max_completion_tokens" not in asked.sent()
    await asked.output("modern", maxTokens=7)
    assert asked.sent()["max_completion_tokens"] == 7
    assert "max_tokens" not in asked.sent()


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
    assert any("does not fit the schema" in line for line in given.logged)
    assert given.state.usage is not None
    assert given.state.usage.input_tokens == 2000


async def test_a_value_that_never_fits_fails_with_what_is_wrong(asked: Asked) -> None:
    failed = await asked.failure("repeats", "weather", responseSchema=TICKET)
    assert (failed.code, failed.retryable) == ("MODEL_OUTPUT", True)
    assert "it is no JSON" in failed.message
    assert failed.details["answer"].startswith("That does not fit")
    assert len(asked.peer.seen) == 2


async def test_a_model_may_call_tools_before_it_answers(asked: Asked) -> None:
    prompt = json.dumps([{"name": "json_query", "arguments": {"data": {"a": 7}, "expression": "a"}}])
    given = asked.given()
    outcome = await given.run("llm", {"model": "calls", "messages": [_user(prompt)], "tools": ["json_query"]})
    assert outcome == Output("They said: 7")
    assert [tool["function"]["name"] for tool in asked.sent(0)["tools"]] == ["json_query"]
    assert "calls json_query" in given.logged
    assert given.state.usage is not None
    assert given.state.usage.output_tokens == 400


async def test_tools_and_a_schema_go_together(asked: Asked) -> None:
    prompt = json.dumps([{"name": "json_query", "arguments": {"data": {"a": 7}, "expression": "a"}}])
    schema = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}
    config = {"model": "calls", "messages": [_user(prompt)], "tools": ["json_query"], "responseSchema": schema}
    assert await asked.given().run("llm", config) == Output({"said": "7"})


async def test_a_model_that_calls_tools_for_ever_is_stopped(asked: Asked) -> None:
    prompt = json.dumps([{"name": "json_query", "arguments": {"data": {"a": 7}, "expression": "a"}}])
    with pytest.raises(NodeFailure) as caught:
        await asked.given().run(
            "llm", {"model": "calls-for-ever", "messages": [_user(prompt)], "tools": ["json_query"]}
        )
    assert caught.value.code == "BUDGET"
    assert len(asked.peer.seen) == 6


def _user(text: str) -> dict[str, str]:
    """Words that look like a template are none here."""
    return {"role": "user", "content": "{% raw %}" + text + "{% endraw %}"}


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
    ("impatient", "MODEL_TIMEOUT", True, "said nothing for too long"),
    ("impatient-with-drips", "MODEL_TIMEOUT", True, "said nothing for too long"),
    ("impatient-with-silence", "MODEL_TIMEOUT", True, "said nothing for too long"),
    ("breaks-off", "MODEL_STREAM", True, "broke off"),
    ("ends-early", "MODEL_STREAM", True, "cut off"),
    ("closes", "MODEL_STREAM", True, "broke off"),
    ("no-http", "MODEL_STREAM", True, "broke off"),
    ("no-json", "MODEL_STREAM", True, "no answer"),
    ("another-json", "MODEL_STREAM", True, "no answer"),
    ("a-page", "MODEL_STREAM", True, "no answer"),
    ("broken-utf8", "MODEL_STREAM", True, "no answer"),
    ("nothing", "MODEL_STREAM", True, "no answer"),
    ("says-error", "MODEL_STREAM", True, "the engine fell over"),
    ("lies-about-length", "MODEL_STREAM", True, "broke off"),
    ("gib", "MODEL_STREAM", True, "larger than"),
    ("gib-of-error", "MODEL_STREAM", True, "larger than"),
    ("bomb", "MODEL_STREAM", True, "compressed"),
    ("nobody", "MODEL_UNAVAILABLE", True, "cannot be reached"),
    ("nowhere", "MODEL_UNAVAILABLE", True, "cannot be reached"),
    ("unset", "MODEL_UNAVAILABLE", False, "NO_SUCH_VARIABLE is not set"),
    ("unset-url", "MODEL_UNAVAILABLE", False, "NO_SUCH_VARIABLE is not set"),
    ("odd-key", "MODEL_AUTH", False, "the key of the model 'odd-key'"),
    ("uninstalled", "MODEL_UNAVAILABLE", False, "pip install langchain-anthropic"),
    ("unheard-of", "MODEL_UNAVAILABLE", False, "nosuchprovider"),
    ("misconfigured", "MODEL_UNAVAILABLE", False, "n must be at least 1"),
    ("priecd", "MODEL_UNKNOWN", False, "did you mean 'priced'?"),
]


@pytest.mark.parametrize("model,code,retryable,told", FAILURES, ids=[failure[0] for failure in FAILURES])
async def test_each_failure_has_a_code_of_its_own_and_says_what_to_do(
    asked: Asked, model: str, code: str, retryable: bool, told: str
) -> None:
    async with asyncio.timeout(30):
        failed = await asked.failure(model)
    assert (failed.code, failed.retryable) == (code, retryable)
    assert told in failed.message
    assert f"{model!r}" in failed.message
    assert "canary" not in f"{failed.message} {failed.details}"
    # The library tries nothing again: attempts are the node's.
    assert asked.peer.count("/v1/chat/completions") <= 1
    assert asked.peer.written < 64 * MIB


async def test_an_endpoint_that_gives_the_key_away_gives_it_to_nobody(asked: Asked) -> None:
    given = asked.given()
    outcome = await given.run("llm", {"model": "repeats", "prompt": "it is sk-secret-canary, is it not?"})
    given.context.settle()
    assert isinstance(outcome, Output)
    assert given.context.redacted(outcome.value) == "it is •••, is it not?"
    assert "".join(delta.text for delta in given.texts) == "it is •••, is it not?"


async def test_what_the_endpoint_says_of_when_to_come_back_is_in_the_details(asked: Asked) -> None:
    assert (await asked.failure("busy")).details == {"status": 429, "retryAfterS": 7.0}


async def test_the_nodes_retry_waits_for_as_long_as_the_endpoint_asks(asked: Asked) -> None:
    result, pauses = await _attempted(asked, "busy-once", Retry(max_attempts=2, backoff_s=0.01))
    assert (result.outcome, pauses) == (Output("now"), [0.3])
    result, pauses = await _attempted(asked, "busy", Retry(max_attempts=3, backoff_s=0.01, max_s=0.05))
    assert (result.attempts, pauses) == (3, [0.05, 0.05])


@pytest.mark.parametrize("model", ["locked", "gone", "poor"])
async def test_what_is_wrong_for_good_is_not_tried_again(asked: Asked, model: str) -> None:
    result, pauses = await _attempted(asked, model, Retry(max_attempts=3))
    assert (result.attempts, pauses) == (1, [])


async def _attempted(asked: Asked, model: str, retry: Retry) -> tuple[Result, list[float]]:
    config = {"model": model, "prompt": "hi"}
    kind = TYPES["llm"]
    work = Work(NodeSpec("n", "llm", config=config, retry=retry), kind, kind.Config.model_validate(config))
    pauses: list[float] = []
    result = await attempt(work, asked.given().context, lambda _, error, pause: pauses.append(pause), lambda _: None)
    return result, pauses


async def test_a_refusal_and_a_cut_answer_fail_a_structured_answer_at_once(asked: Asked) -> None:
    assert (await asked.failure("refuses", responseSchema=TICKET)).code == "MODEL_FILTERED"
    cut = await asked.failure("cut-short", FITS, responseSchema=TICKET)
    assert (cut.code, cut.retryable) == ("MODEL_OUTPUT", False)
    assert "max_tokens" in cut.message
    assert len(asked.peer.seen) == 2


async def test_a_text_that_is_cut_is_given_with_a_warning(asked: Asked) -> None:
    given = asked.given()
    assert await given.run("llm", {"model": "cut-short", "prompt": "Once upon"}) == Output("Once upon")
    assert any("the answer is cut" in line for line in given.logged)


@pytest.mark.parametrize("time", range(20))
async def test_the_nodes_own_time_ends_a_model_that_never_ends(asked: Asked, time: int) -> None:
    """Again and again: the end of the time may come in the same moment as a piece of the answer, and must not be lost."""
    failed = await asked.failure("babbles", timeoutS=0.2)
    assert (failed.code, failed.retryable) == ("MODEL_TIMEOUT", True)
    assert "within 0.2 s" in failed.message
    await asyncio.wait_for(asked.peer.left.wait(), 5)


@pytest.mark.parametrize("model", ["hangs", "falls-silent", "drips", "babbles"])
async def test_a_cancel_closes_the_connection_and_keeps_what_was_said(asked: Asked, model: str) -> None:
    given = asked.given()
    running = asyncio.create_task(given.run("llm", {"model": model, "prompt": "hi"}))
    await asyncio.wait_for(asked.peer.arrived.wait(), 10)
    if model in ("falls-silent", "babbles"):
        await asyncio.wait_for(given.spoke.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(asked.peer.left.wait(), 5)
    if model == "falls-silent":
        assert given.state.partial_output == "Once upon"


BAD_CONFIG: list[tuple[dict[str, Any], str]] = [
    ({}, "model"),
    ({"model": "m"}, "give either `prompt` or `messages`"),
    ({"model": "m", "prompt": "a", "messages": "b"}, "give either `prompt` or `messages`"),
    ({"model": "m", "messages": []}, "`messages` is empty"),
    ({"model": "m", "messages": [{"role": "robot", "content": "a"}]}, "role"),
    ({"model": 7, "prompt": "a"}, "model"),
    ({"model": "m", "prompt": "a", "temperature": "hot"}, "temperature"),
    ({"model": "m", "prompt": "a", "max_tokens": 0}, "max_tokens"),
    ({"model": "m", "prompt": "a", "timeoutS": -1}, "timeoutS"),
    ({"model": "m", "prompt": "a", "tools": "json_query"}, "tools"),
    ({"model": "m", "prompt": "a", "responseSchema": {"type": "nonsense"}}, "is no JSON Schema"),
    ({"model": "m", "prompt": "a", "responseSchema": {"type": "string"}}, "has to be of type object"),
    ({"model": "m", "prompt": "a", "schema": {}}, "schema"),
]


@pytest.mark.parametrize("config,told", BAD_CONFIG)
def test_a_bad_config_is_refused_before_it_runs(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TYPES["llm"].Config.model_validate(config)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "config,scope,code,told",
    [
        ({"prompt": "{{ input.a.b }}"}, {"input": {}}, "TEMPLATE", "a"),
        ({"messages": "{{ input }}"}, {"input": 7}, "CONFIG", "`messages` is no list"),
        ({"messages": "{{ input }}"}, {"input": [{"role": "robot", "content": ""}]}, "CONFIG", "0.role"),
        ({"messages": "{{ input }}"}, {"input": [{"role": "user"}]}, "CONFIG", "0.content"),
        ({"prompt": "a", "tools": ["nosuch"]}, {}, "TOOL_UNKNOWN", "nosuch"),
    ],
)
async def test_what_goes_wrong_at_run_time_is_told(
    asked: Asked, config: dict[str, Any], scope: dict[str, Any], code: str, told: str
) -> None:
    with pytest.raises(NodeFailure) as caught:
        await asked.given(**scope).run("llm", {"model": "repeats", **config})
    assert caught.value.code == code
    assert told in caught.value.message
    assert not asked.peer.seen


async def test_a_process_without_models_says_so() -> None:
    with pytest.raises(NodeFailure) as caught:
        await Given().run("llm", {"model": "m", "prompt": "a"})
    assert caught.value.code == "MODEL_UNAVAILABLE"


async def test_many_nodes_at_once_share_one_client(asked: Asked) -> None:
    outputs = await asyncio.gather(*(asked.output("repeats", f"number {n}") for n in range(50)))
    assert outputs == [f"number {n}" for n in range(50)]
