"""Makes LangChain chat models from entries of the catalog file.

Called in a thread, since the import of a provider's library may take seconds.
"""

from typing import Any

import httpx2
from langchain_core.language_models import BaseChatModel

from engine.catalog_file import ModelEntry, expand_variables
from engine.chat_models.base import Sampling, is_hidden
from engine.errors import NodeFailure
from engine.values.redaction import Redactor

OPENAI = "openai"
NO_KEY = "none"
"""The key for endpoints that need none.

Without it the library would send OPENAI_API_KEY to them.
"""
OPENAI_URL = "https://api.openai.com/v1"


def build(entry: ModelEntry, key: str | None, sampling: Sampling, client: httpx2.AsyncClient) -> BaseChatModel:
    """Make the chat model of an entry.

    Args:
        entry: The entry of the catalog file.
        key: The API key, or None.
        sampling: The sampling parameters of the node.
        client: The HTTP client for OpenAI-compatible endpoints.

    Raises:
        NodeFailure: MODEL_UNAVAILABLE if a package is missing or the entry is not valid, CONFIG if
            the model has no such sampling parameter.
    """
    try:
        chat = _openai(entry, key, sampling, client) if entry.provider == OPENAI else _other(entry, key, sampling)
        _check_sampling(entry, chat, sampling)
        return chat
    except ImportError as missing:
        raise NodeFailure(
            "MODEL_UNAVAILABLE", f"the model {entry.name!r} cannot be used: {_install(missing)}"
        ) from missing
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        if key is not None and is_hidden(key):
            reason = Redactor([key]).redact_text(reason)
        raise NodeFailure(
            "MODEL_UNAVAILABLE", f"the catalog's entry {entry.name!r} cannot be used: {reason}"[:1000]
        ) from error


def _check_sampling(entry: ModelEntry, chat: BaseChatModel, sampling: Sampling) -> None:
    """Raise NodeFailure(CONFIG) for a parameter that the class would silently ignore."""
    fields = type(chat).model_fields
    known = {name for field, info in fields.items() for name in (field, info.alias)}
    for name in ("temperature", "max_tokens"):
        if getattr(sampling, name) is not None and name not in known:
            message = (
                f"{type(chat).__name__} of the model {entry.name!r} has no `{name}`; set its option in the catalog"
            )
            raise NodeFailure("CONFIG", message)


def _install(missing: ImportError) -> str:
    cause = missing.__cause__
    return f"{' '.join(str(missing).split())} in the environment in which Treadle runs" + (
        f" ({cause})" if cause else ""
    )


def _openai(entry: ModelEntry, key: str | None, sampling: Sampling, client: httpx2.AsyncClient) -> BaseChatModel:
    from engine.chat_models.chat_completions import ChatCompletions, with_all_forms

    timeout = httpx2.Timeout(entry.timeout_s, connect=entry.connect_timeout_s)
    arguments: dict[str, Any] = {
        "api_key": key or NO_KEY,
        "base_url": base_url_of(entry),
        "max_retries": 0,
        "timeout": timeout,
        # The library's timeout loses a cancel that arrives with a chunk; `ask` limits the silence.
        "stream_chunk_timeout": None,
        "stream_usage": True,
        "http_async_client": client,
        "temperature": sampling.temperature,
    }
    if entry.base_url is not None:
        arguments["use_responses_api"] = False
    if sampling.max_tokens is not None:
        arguments |= _limit(entry, sampling.max_tokens)
    return with_all_forms(ChatCompletions(model=entry.model or entry.name, **{**arguments, **entry.options}))


def _limit(entry: ModelEntry, max_tokens: int) -> dict[str, Any]:
    """Return the limit under the name that the endpoint knows: `max_tokens` or another one."""
    name = entry.max_tokens_field or ("max_completion_tokens" if entry.base_url is None else "max_tokens")
    if name == "max_tokens":
        return {"extra_body": {"max_tokens": max_tokens}}
    return {"max_tokens": max_tokens}


def _other(entry: ModelEntry, key: str | None, sampling: Sampling) -> BaseChatModel:
    """Make a model with the arguments that all LangChain classes know; `options` has the others."""
    from langchain.chat_models import init_chat_model

    arguments: dict[str, Any] = {
        "api_key": key,
        "base_url": None if entry.base_url is None else expand_variables(entry.base_url),
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "max_retries": 0,
        "timeout": entry.timeout_s,
    }
    present = {name: value for name, value in arguments.items() if value is not None}
    chat: BaseChatModel = init_chat_model(
        entry.model or entry.name, model_provider=entry.provider, **{**present, **entry.options}
    )
    return chat


def base_url_of(entry: ModelEntry) -> str:
    """Return the base URL of an OpenAI-compatible entry.

    Raises:
        CatalogError: It names an environment variable that is not set.
    """
    return expand_variables(entry.base_url or OPENAI_URL).rstrip("/")
