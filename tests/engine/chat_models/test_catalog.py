"""The catalog of models: the catalog file, the environment, and the built-in echo model."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.catalog_file import CatalogError, CatalogFile, ModelEntry, add_models, read_catalog
from engine.chat_models.catalog import open_models
from engine.chat_models.echo_answers import answer
from engine.errors import NodeFailure
from engine.nodes.resources import ResourceOptions, open_resources
from engine.sdk.node import Output
from tests.engine.node_runner import NodeHarness

FILE = """
[[models]]
name = "gpt"
model = "gpt-5-mini"
api_key = "${OPENAI_API_KEY}"
context_window = 400000
price = { input = 0.25, output = 2.0, cached_input = 0.025 }

[[models]]
name = "llama3.2:1b"
base_url = "http://127.0.0.1:11434/v1"
"""


def test_models_come_from_the_file_and_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text(FILE)
    catalog = add_models(read_catalog(path), '[{"name": "more", "base_url": "http://127.0.0.1:1/v1"}]')
    assert [model.name for model in catalog.models] == ["gpt", "llama3.2:1b", "more"]
    assert catalog.models[0].price is not None
    assert catalog.models[0].provider == "openai"


@pytest.mark.parametrize(
    "entry,expected",
    [
        ({}, "`models[0].name` is required"),
        ({"name": "treadle/gpt"}, "`models[0]`: names that begin with treadle/ are reserved"),
        ({"name": "no spaces"}, "`models[0].name` must match the pattern"),
        ({"name": "a", "base_url": "127.0.0.1:8000"}, "`models[0].base_url` must match the pattern"),
        ({"name": "a", "api_key": "sk-canary", "api_key_secret": "b"}, "give either `api_key` or `api_key_secret`"),
        ({"name": "a", "api_key": ["sk-canary"]}, "`models[0].api_key` must be a text"),
        ({"name": "a", "price": {"input": -1, "output": 1}}, "`models[0].price.input` must be at least 0"),
        ({"name": "a", "price": 3}, "`models[0].price` must be an object"),
        ({"name": "a", "timeout_s": 0}, "`models[0].timeout_s`"),
        ({"name": "a", "capabilities": ["magic"]}, "`models[0].capabilities[0]`"),
        ({"name": "a", "url": "http://x"}, "`models[0].url` is not a known field"),
    ],
)
def test_an_invalid_entry_is_one_line_with_the_place_and_no_key(entry: dict[str, Any], expected: str) -> None:
    with pytest.raises(CatalogError) as caught:
        add_models(CatalogFile(), json.dumps([entry]))
    message = str(caught.value)
    assert expected.replace("`models", "`") in message
    assert "\n" not in message
    assert "canary" not in message


@pytest.mark.parametrize("text", ["{", '{"name": "a"}', '[{"name": "a"}, {"name": "a"}]', "gpt"])
def test_an_invalid_list_in_the_environment_is_one_line(text: str) -> None:
    with pytest.raises(CatalogError, match=r"\ATREADLE_MODELS: .*\Z"):
        add_models(CatalogFile(), text)


def test_no_representation_contains_a_key() -> None:
    assert "canary" not in repr(ModelEntry.model_validate({"name": "a", "api_key": "sk-canary"}))


def test_node_types_load_without_any_client_library() -> None:
    look = "import sys, engine.nodes.registry, engine.nodes.resources; print([m for m in sys.modules if m in %r])"
    heavy = ["langchain_openai", "openai", "langchain", "langchain.agents", "mcp", "tiktoken", "langchain_mcp_adapters"]
    done = subprocess.run([sys.executable, "-c", look % (heavy,)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


TICKETS = [
    ("I was charged twice for one invoice", "billing"),
    ("The app crashes with an error", "technical"),
    ("Where is your office? And what are the hours?", "other"),
]
CATEGORY = {
    "anyOf": [
        {"const": "billing", "description": "charge, invoice, refund, payment, card"},
        {"const": "technical", "description": "error, crash, bug, login, slow"},
        {"const": "other", "description": "all that is not of the above"},
    ],
    "default": "other",
}


@pytest.mark.parametrize("ticket,category", TICKETS)
def test_echo_chooses_by_the_words_of_the_choices(ticket: str, category: str) -> None:
    assert answer({"type": "object", "properties": {"category": CATEGORY}}, ticket) == {"category": category}


@pytest.mark.parametrize(
    "schema,prompt,value",
    [
        ({"enum": ["red", "blue"]}, "The sky is blue", "blue"),
        ({"enum": ["red", "blue"]}, "The grass is green", "red"),
        ({"enum": [1, 2]}, "take 2 of them", 2),
        ({"const": 7}, "anything", 7),
        ({"type": "boolean", "description": "urgent"}, "this is urgent!", True),
        ({"type": "boolean", "description": "urgent"}, "take your time", False),
        ({"type": "integer", "minimum": 10}, "between 3 and 12.5 or 40", 40),
        ({"type": "number"}, "it costs 12.5 EUR", 12.5),
        ({"type": "number", "minimum": 2}, "nothing here", 2),
        ({"type": "string", "maxLength": 5}, "Once upon a time", "Once "),
        ({"type": ["null", "string"]}, "hi", "hi"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "it is 3", 3),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, "it is 3", [3, 3]),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, "it is 3", 3),
        ({"$ref": "#"}, "for ever", ...),
        ({"properties": {"a": {"$ref": "#"}}}, "for ever", ...),
        (
            {"allOf": [{"type": "object", "properties": {"a": {"const": 1}}}], "properties": {"b": {"const": 2}}},
            "",
            {"a": 1, "b": 2},
        ),
        (True, "anything", None),
    ],
)
def test_echo_fills_a_schema_by_its_rules(schema: Any, prompt: str, value: Any) -> None:
    reply = answer(schema, prompt)
    assert value is ... or reply == value


async def run(kind: str, config: dict[str, Any], scope: dict[str, Any] | None = None) -> tuple[Any, NodeHarness]:
    async with open_resources(ResourceOptions(sandbox_ready=0), {}) as resources:
        harness = NodeHarness(scope, resources)
        outcome = await harness.run(kind, {"model": "treadle/echo", **config})
    assert isinstance(outcome, Output)
    return outcome.value, harness


async def test_echo_repeats_its_prompt_word_by_word() -> None:
    output, harness = await run("llm", {"prompt": "Hello {{ input }},\n  how are you?"}, {"input": "you"})
    assert output == "Hello you,\n  how are you?"
    assert [delta.text for delta in harness.deltas] == ["Hello ", "you,\n  ", "how ", "are ", "you?"]
    assert harness.state.usage is not None
    assert (harness.state.usage.output_tokens, harness.state.usage.cost_usd) == (5, 0.0)


async def test_echo_stops_at_the_token_limit() -> None:
    output, harness = await run("llm", {"prompt": "one two three", "max_tokens": 2})
    assert output == "one two "
    assert any("the answer is cut" in line for line in harness.log_messages)


async def test_echo_calls_the_tools_whose_calls_are_in_its_prompt() -> None:
    prompt = (
        'Please json_query({"data": {"a": [1, 2]}, "expression": "a[1]"}) and nosuch({"a": 1}) and json_query({oops'
    )
    output, _ = await run("agent", {"prompt": prompt, "tools": ["json_query"]})
    assert output["text"] == "2"
    assert [call["tool"] for call in output["toolCalls"]] == ["json_query"]
    output, _ = await run("llm", {"prompt": prompt, "tools": ["json_query"]})
    assert output == "2"


async def test_echo_fails_if_its_rules_give_no_matching_value() -> None:
    schema = {"type": "object", "properties": {"code": {"type": "string", "pattern": "^[A-Z]{3}$"}}}
    with pytest.raises(NodeFailure) as caught:
        await run("llm", {"prompt": "hello", "responseSchema": schema})
    assert caught.value.code == "MODEL_OUTPUT"


async def test_the_catalog_describes_echo_as_no_model() -> None:
    async with open_models([]) as models:
        (echo,) = await models.listed()
    assert echo.description.startswith("No language model")
    assert echo.available
