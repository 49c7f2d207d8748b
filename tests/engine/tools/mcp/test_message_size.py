"""A message of an MCP server is bounded by its bytes and by its values, however it arrives."""

import json
import random
from time import perf_counter

import pytest
from mcp.types import JSONRPCMessage

from engine.tools.mcp.transport import MAX_MESSAGE, MAX_VALUES, MessageSize


def problem_of(text: str, piece: int) -> str | None:
    size = MessageSize()
    for start in range(0, len(text), piece):
        if (problem := size.add(text[start : start + piece])) is not None:
            return problem
    return None


@pytest.mark.parametrize("seed", range(20))
def test_commas_and_brackets_inside_texts_do_not_count(seed: int) -> None:
    rng = random.Random(seed)
    texts = ["".join(rng.choices('\\",[{é x', k=rng.randrange(30))) for _ in range(50)]
    text = json.dumps({"a": texts})
    size = MessageSize()
    for start in range(0, len(text), width := rng.randrange(1, 9)):
        assert size.add(text[start : start + width]) is None
    assert size._values == len(texts) + 1


@pytest.mark.parametrize("value", ["1", "{}", "[]", '""'])
def test_a_message_of_too_many_values_is_refused(value: str) -> None:
    text = '{"a":[' + ",".join([value] * (MAX_VALUES + 1)) + "]}"
    assert "values" in (problem_of(text, 65_536) or "")


def test_a_long_text_is_allowed_and_a_longer_one_is_not() -> None:
    assert problem_of('{"a":"' + "x,[{" * (MAX_MESSAGE // 4 - 10), 65_536) is None
    assert "MiB" in (problem_of("x" * (MAX_MESSAGE + 1), 65_536) or "")


def test_the_largest_number_of_values_is_parsed_quickly() -> None:
    """Compared with a text of 4 MiB, because this machine may be busy."""
    many = '{"jsonrpc":"2.0","id":1,"result":{"a":[' + ",".join(["1"] * (MAX_VALUES - 10)) + "]}}"
    long = '{"jsonrpc":"2.0","id":1,"result":{"a":"' + "x" * (4 << 20) + '"}}'
    times = []
    for text in (many, long):
        started_at = perf_counter()
        JSONRPCMessage.model_validate_json(text)
        times.append(perf_counter() - started_at)
    assert times[0] < max(0.25, times[1] * 20)
