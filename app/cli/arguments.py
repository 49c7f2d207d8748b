"""Reads the arguments of `treadle run`: a file with a spec or an example, and the inputs.

Each error is one line that names the argument.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

from engine.values.json_text import NotJson, without_mark

MAX_FILE = 16 * 1024 * 1024
"""Bytes of the largest file that is read. A server accepts bodies of 4 MiB."""


class ArgumentError(Exception):
    """An argument cannot be used. The message names the argument and the problem."""


def read_arguments(file: Path, inputs: str | None) -> tuple[Any, Any]:
    """Read a spec and its inputs.

    Args:
        file: A spec, or an example with the keys `spec` and `exampleInputs`, as JSON.
        inputs: JSON that replaces the example's inputs; None means not set.

    Returns:
        (spec, inputs); inputs are `{}` if there are none.

    Raises:
        ArgumentError: The file cannot be read, or one of the two is not valid JSON.
    """
    content = parse_json(read_text(file), str(file))
    parsed_inputs = None if inputs is None else parse_json(inputs, "--inputs")
    if isinstance(content, dict) and "spec" in content:
        return content["spec"], content.get("exampleInputs", {}) if inputs is None else parsed_inputs
    return content, {} if inputs is None else parsed_inputs


def needs_of(file: Path) -> list[str]:
    """Return what an example needs in addition to a server, one sentence each."""
    content = parse_json(read_text(file), str(file))
    needs = content.get("needs", []) if isinstance(content, dict) and "spec" in content else []
    return [str(need) for need in needs] if isinstance(needs, list) else []


def parse_json(text: str, name: str) -> Any:
    """Parse JSON as strictly as the server does. Raises ArgumentError with `name` at its start.

    Python's parser accepts NaN, Infinity and lone surrogates; this function refuses them.
    """
    try:
        value = json.loads(without_mark(text), parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        position = f"line {error.lineno} column {error.colno}"
        raise ArgumentError(f"{name} is not valid JSON: {error.msg}, {position}") from error
    except UnicodeEncodeError as error:
        raise ArgumentError(f"{name} contains a lone surrogate, which is not a valid character") from error
    except RecursionError as error:
        raise ArgumentError(f"{name} is nested too deeply") from error
    except ValueError as error:
        raise ArgumentError(f"{name} is not valid JSON: {error}") from error
    return value


def read_text(file: Path) -> str:
    """Read a file of text. Raises ArgumentError.

    It may come from a folder that others have written. A pipe or a device would never end, and opening some
    of them waits.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ArgumentError(f"{file} cannot be read: it is no regular file")
            content = stream.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise ArgumentError(f"{file} has more than {MAX_FILE // 1024 // 1024} MiB, which no server accepts")
        return without_mark(content)
    except OSError as error:
        raise ArgumentError(f"{file} cannot be read: {error.strerror}") from error
    except NotJson as error:
        raise ArgumentError(f"{file} {error}") from error


def _refuse_constant(name: str) -> object:
    raise ValueError(f"JSON has no {name}; write null or a number")
