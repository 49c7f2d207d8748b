"""What `treadle run` is given: a file with a spec, and inputs. Whatever is wrong with either is one line."""

import json
from pathlib import Path
from typing import Any


class GivenError(Exception):
    """The message names what was given, and what is wrong with it."""


def read(file: Path, inputs: str | None) -> tuple[Any, Any]:
    """(spec, inputs) of a spec or an example; `inputs` go before the example's own."""
    content = parsed(_text(file), str(file))
    given = None if inputs is None else parsed(inputs, "--inputs")
    if isinstance(content, dict) and "spec" in content:
        return content["spec"], content.get("exampleInputs", {}) if inputs is None else given
    return content, {} if inputs is None else given


def parsed(text: str, name: str) -> Any:
    """JSON as every server takes it: Python's own reader lets NaN, Infinity and half characters pass."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as wrong:
        raise GivenError(f"{name} is no valid JSON: {wrong.msg}, line {wrong.lineno} column {wrong.colno}") from wrong
    except UnicodeEncodeError as wrong:
        raise GivenError(f"{name} holds half a character (a lone surrogate), which no text may hold") from wrong
    except RecursionError as wrong:
        raise GivenError(f"{name} is nested too deeply") from wrong
    except ValueError as wrong:
        raise GivenError(f"{name} is no valid JSON: {wrong}") from wrong
    return value


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as wrong:
        raise GivenError(f"{file} cannot be read: {wrong.strerror}") from wrong
    except UnicodeDecodeError as wrong:
        raise GivenError(f"{file} is no text in UTF-8 (byte {wrong.start})") from wrong


def _refuse(name: str) -> object:
    raise ValueError(f"there is no {name} in JSON; write null or a number")
