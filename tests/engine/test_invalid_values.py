"""No author reads a message of pydantic, of an HTTP library or of the operating system."""

import errno
import json
import socket
import ssl
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_core import PydanticKnownError
from pydantic_core._pydantic_core import list_all_errors

from engine.connection_faults import connection_fault
from engine.invalid_values import sentence, sentences

ERRORS = {error["type"]: error for error in list_all_errors()}
OWN = {"value_error", "assertion_error"}


@pytest.mark.parametrize("kind", sorted(ERRORS.keys() - OWN))
def test_every_error_of_pydantic_has_an_own_sentence(kind: Any) -> None:
    context = ERRORS[kind]["example_context"]
    text = sentence(
        {"type": kind, "loc": (), "msg": ERRORS[kind]["example_message_python"], "input": 1, "ctx": context or {}}
    )
    assert text != PydanticKnownError(kind, context).message()
    assert text.split()[0] in ("must", "is", "needs", "contains")
    assert not any(word in text for word in ("Input", "Python", "instance", "{"))


class Part(BaseModel):
    name: str = Field(min_length=2)


class Whole(BaseModel, extra="forbid"):
    parts: list[Part]
    kind: Literal["a", "b"] = "a"

    @field_validator("kind")
    @classmethod
    def _check(cls, kind: str) -> str:
        if kind == "b":
            raise ValueError("b is not possible today")
        return kind


def test_all_problems_are_on_one_line_with_their_paths_and_without_values() -> None:
    with pytest.raises(ValidationError) as error:
        Whole.model_validate({"parts": [{"name": "x"}, {"name": 7}, 3], "kind": "b", "sk-canary": "sk-canary"})
    assert sentences(error.value) == (
        "`parts[0].name` must have at least 2 characters; `parts[1].name` must be a text; `parts[2]` must be an object; "
        "`kind`: b is not possible today; `sk-canary` is not a known field"
    )
    with pytest.raises(ValidationError) as error:
        Whole.model_validate({"parts": [3] * 20})
    assert sentences(error.value).endswith("; `parts[4]` must be an object; …")


def caused(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


FAULTS: list[tuple[BaseException, str | None]] = [
    (caused(httpx2.ConnectError("All attempts failed"), ConnectionRefusedError(111, "x")), "the connection was refused"),
    (caused(httpx2.ConnectError("x"), socket.gaierror(-2, "x")), "the name cannot be resolved"),
    (caused(httpx2.ConnectError("x"), OSError(errno.ENETUNREACH, "x")), "the network cannot be reached"),
    (caused(httpx2.ConnectError("x"), ExceptionGroup("x", [ConnectionRefusedError(111)])), "the connection was refused"),
    (httpx2.ConnectError("[SSL] x"), "no connection could be made"),
    (httpx2.RemoteProtocolError("Server disconnected"), "the response ended too early, or is not HTTP"),
    (caused(httpx2.ReadError(""), ConnectionResetError(104, "x")), "the connection was lost"),
    (httpx2.LocalProtocolError("Illegal header value b'x'"), "the address or a header has a character"),
    (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "no TLS connection could be made"),
    (FileNotFoundError(2, "No such file", "/no/such/program"), "/no/such/program does not exist"),
    (json.JSONDecodeError("Expecting value", "x", 0), "a received text is no JSON"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "a received text is not UTF-8"),
    (KeyError("x"), None),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "text"), FAULTS, ids=lambda value: type(value).__name__)
def test_the_fault_of_a_connection_has_an_own_sentence(fault: BaseException, text: str | None) -> None:
    reason = connection_fault(fault)
    assert (reason or "").startswith(text or "")
    assert (reason is None) == (text is None)


def test_no_code_for_authors_uses_the_messages_of_pydantic() -> None:
    """The whole engine converts them in one place."""
    users = [
        path.name
        for path in (Path(__file__).parents[2] / "engine").rglob("*.py")
        if '["msg"]' in path.read_text() or "detail['msg']" in path.read_text()
    ]
    assert users == ["invalid_values.py"]
