"""What `treadle run` is given may be anything; what is wrong with it is one line that names it."""

import json
from pathlib import Path

import pytest

from app.cli.arguments import GivenError, read


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "is no valid JSON: Expecting property name enclosed in double quotes, line 1 column 2"),
        (b"", "is no valid JSON"),
        (b'{"nodes": [NaN], "edges": []}', "there is no NaN in JSON"),
        (b'{"nodes": [-Infinity], "edges": []}', "there is no -Infinity in JSON"),
        (b'{"nodes": [' + b"9" * 5000 + b"]}", "is no valid JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"label": "\\ud800"}', "half a character"),
        (b"\xff\xfe{\x00}\x00", "is no text in UTF-8"),
    ],
)
def test_a_file_that_holds_no_json_is_told_in_a_line(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "spec.json"
    file.write_bytes(content)
    with pytest.raises(GivenError) as refused:
        read(file, None)
    assert str(refused.value).startswith(str(file))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_missing_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(GivenError, match="cannot be read: No such file or directory"):
        read(tmp_path / "none.json", None)
    with pytest.raises(GivenError, match="cannot be read: Is a directory"):
        read(tmp_path, None)


@pytest.mark.parametrize("inputs", ["NaN", '{"x": Infinity}', "{", "", "name=world"])
def test_inputs_that_are_no_json_are_told_by_their_option(tmp_path: Path, inputs: str) -> None:
    file = tmp_path / "spec.json"
    file.write_text('{"nodes": [], "edges": []}')
    with pytest.raises(GivenError, match=r"^--inputs is no valid JSON"):
        read(file, inputs)


def test_inputs_go_before_those_of_the_example(tmp_path: Path) -> None:
    file = tmp_path / "example.json"
    # Some editors put a byte order mark before the text.
    file.write_text("\ufeff" + json.dumps({"spec": {"nodes": []}, "exampleInputs": {"x": 1}}), encoding="utf-8")
    assert read(file, None) == ({"nodes": []}, {"x": 1})
    assert read(file, '{"x": 2}') == ({"nodes": []}, {"x": 2})
    assert read(file, "null") == ({"nodes": []}, None)
