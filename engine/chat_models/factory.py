"""Makes LangChain's chat models out of entries of the catalog. To be called in a thread: it imports libraries, for seconds."""

from typing import Any

import httpx2
from langchain_core.language_models import BaseChatModel

from engine.catalog_file import ModelEntry, expand_variables
from engine.chat_models.base import Sampling, is_hidden
from engine.errors import NodeFailure
from engine.values.redaction import Redactor

OPENAI = "openai"
NO_KEY = "none"
"""Sent to endpoints that need none: the library insists on one, and would take OPENAI_API_KEY along to a stranger."""
OPENAI_URL = "https://api.openai.com/v1"


def build(entry: ModelEntry, key: str | None, sampling: Sampling, client: httpx2.AsyncClient) -> BaseChatModel:
    """Raises NodeFailure where the catalog or the installation does not allow it."""
    from langchain.chat_models import init_chat_model

    arguments = _openai(entry, key, sampling, client) if entry.provider == OPENAI else _other(entry, key, sampling)
    try:
        chat: BaseChatModel = init_chat_model(
            entry.model or entry.name, model_provider=entry.provider, **arguments, **entry.options
        )
        _check_sampling(entry, chat, sampling)
        return chat
    except ImportError as missing:
        raise NodeFailure(
            "MODEL_UNAVAILABLE", f"the model {entry.name!r} cannot be used: {_install(missing)}"
        ) from missing
    except (ValueError, TypeError) as wrong:
        told = " ".join(str(wrong).split())
        if key is not None and is_hidden(key):
            told = Redactor([key]).redact_text(told)
        raise NodeFailure(
            "MODEL_UNAVAILABLE", f"the catalog's entry {entry.name!r} cannot be used: {told}"[:1000]
        ) from wrong


def _check_sampling(entry: ModelEntry, chat: BaseChatModel, sampling: Sampling) -> None:
    """A class that knows no such field takes it and does nothing with it. Raises NodeFailure."""
    fields = type(chat).model_fields
    known = {name for field, info in fields.items() for name in (field, info.alias)}
    for name in ("temperature", "max_tokens"):
        if getattr(sampling, name) is not None and name not in known:
            told = f"{type(chat).__name__} of the model {entry.name!r} knows no `{name}`; set its own option in the catalog"
            raise NodeFailure("CONFIG", told)


def _install(missing: ImportError) -> str:
    cause = missing.__cause__
    return f"{' '.join(str(missing).split())} in the environment in which Treadle runs" + (
        f" ({cause})" if cause else ""
    )


def _openai(entry: ModelEntry, key: str | None, sampling: Sampling, client: httpx2.AsyncClient) -> dict[str, Any]:
    timeout = httpx2.Timeout(entry.timeout_s, connect=entry.connect_timeout_s)
    arguments: dict[str, Any] = {
        "api_key": key or NO_KEY,
        "base_url": address_of(entry),
        "max_retries": 0,
        "timeout": timeout,
        "stream_chunk_timeout": None,  # it swallows a cancel that comes together with a chunk; `ask` sees to silence
        "stream_usage": True,
        "http_async_client": client,
        "temperature": sampling.temperature,
    }
    if entry.base_url is not None:
        arguments["use_responses_api"] = False
    if sampling.max_tokens is not None:
        arguments |= _limit(entry, sampling.max_tokens)
    return {name: value for name, value in arguments.items() if name not in entry.options}


def _limit(entry: ModelEntry, max_tokens: int) -> dict[str, Any]:
    """OpenAI takes one name alone, and most of those that speak its protocol the other."""
    name = entry.max_tokens_field or ("max_completion_tokens" if entry.base_url is None else "max_tokens")
    if name == "max_tokens":
        return {"extra_body": {"max_tokens": max_tokens}}
    return {"max_tokens": max_tokens}


def _other(entry: ModelEntry, key: str | None, sampling: Sampling) -> dict[str, Any]:
    """What all of LangChain's classes understand; the rest is for `options`."""
    arguments: dict[str, Any] = {
        "api_key": key,
        "base_url": None if entry.base_url is None else expand_variables(entry.base_url),
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "max_retries": 0,
        "timeout": entry.timeout_s,
    }
    return {name: value for name, value in arguments.items() if value is not None and name not in entry.options}


def address_of(entry: ModelEntry) -> str:
    """Where an OpenAI-compatible entry is. Raises CatalogError for an environment variable that is not set."""
    return expand_variables(entry.base_url or OPENAI_URL).rstrip("/")
