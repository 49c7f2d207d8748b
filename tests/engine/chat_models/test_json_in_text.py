"""The search of JSON in the text of an answer."""

import time

import pytest

from engine.chat_models.json_in_text import MAX_PROSE, json_values
from engine.values.json_text import NotJson

UNITS = ["{", '{"a":', '{"a": NaN} ', "{1} ", '{"', '{"\n', "{\n"]


@pytest.mark.parametrize("unit", UNITS)
def test_prose_full_of_braces_is_searched_in_bounded_time(unit: str) -> None:
    start = time.thread_time()
    with pytest.raises(NotJson):
        json_values(unit * (MAX_PROSE // len(unit)))
    # It takes 0.2 s. A search whose work grows with the square of the length takes minutes.
    assert time.thread_time() - start < 3


def test_objects_behind_braces_of_a_program_are_found() -> None:
    program = "int main() { return 0; }\n" * 10_000
    assert json_values(f'{program} {{"a": 1}} {{1}} {{"a": {{"b": 2}}}}') == [{"a": 1}, {"a": {"b": 2}}]
