"""Invalid arguments of `treadle run` are reported in one line that names the argument."""

import json
from pathlib import Path

import pytest

from app.cli.arguments import ArgumentError, needs_of, read_arguments


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON: Expecting property name enclosed in double quotes, line 1 column 2"),
        (b"", "is not valid JSON"),
        (b'{"nodes": [NaN], "edges": []}', "JSON has no NaN"),
        (b'{"nodes": [-Infinity], "edges": []}', "JSON has no -Infinity"),
        (b'{"nodes": [' + b"9" * 5000 + b"]}", "is not valid JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"label": "\\ud800"}', "contains a lone surrogate"),
        (b"{\xff}", "byte 1 is not utf-8"),
    ],
)
def test_a_file_without_valid_json_is_reported_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "spec.json"
    file.write_bytes(content)
    with pytest.raises(ArgumentError) as error:
        read_arguments(file, None)
    assert str(error.value).startswith(str(file))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot be read: No such file or directory"):
        read_arguments(tmp_path / "none.json", None)
    with pytest.raises(ArgumentError, match="cannot be read: Is a directory"):
        read_arguments(tmp_path, None)


@pytest.mark.parametrize("inputs", ["NaN", '{"x": Infinity}', "{", "", "name=world"])
def test_inputs_without_valid_json_are_reported_with_their_option(tmp_path: Path, inputs: str) -> None:
    file = tmp_path / "spec.json"
    file.write_text('{"nodes": [], "edges": []}')
    with pytest.raises(ArgumentError, match=r"^--inputs is not valid JSON"):
        read_arguments(file, inputs)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        file.write_bytes('{"nodes": [], "label": "é"}'.encode(encoding))
        assert read_arguments(file, '\ufeff{"x": 2}') == ({"nodes": [], "label": "é"}, {"x": 2})


def test_inputs_replace_those_of_the_example(tmp_path: Path) -> None:
    file = tmp_path / "example.json"
    # Some editors write a byte order mark at the beginning.
    file.write_text("\ufeff" + json.dumps({"spec": {"nodes": []}, "exampleInputs": {"x": 1}}), encoding="utf-8")
    assert read_arguments(file, None) == ({"nodes": []}, {"x": 1})
    assert read_arguments(file, '{"x": 2}') == ({"nodes": []}, {"x": 2})
    assert read_arguments(file, "null") == ({"nodes": []}, None)


def test_an_example_says_what_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "example.json"
    for content, needs in (
        ({"spec": {"nodes": []}, "needs": ["a database"]}, ["a database"]),
        ({"spec": {"nodes": []}}, []),
        ({"spec": {"nodes": []}, "needs": "no list"}, []),
        ({"nodes": [], "needs": ["a field of a spec"]}, []),
    ):
        file.write_text(json.dumps(content))
        assert needs_of(file) == needs
