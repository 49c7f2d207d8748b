"""A chat model as nodes see it, its entry in the catalog, and the cost of its calls."""

from dataclasses import dataclass, field
from typing import Literal, TypeGuard

from langchain_core.language_models import BaseChatModel
from langchain_core.messages.ai import UsageMetadata

from engine.catalog_file import Capability, Price
from engine.events import Usage

MAX_TOKENS = 100_000_000
"""Tokens of one call. An endpoint that reports more, or less than none, has counted nothing."""
MIN_KEY = 16
"""Length from which on a key is masked. Shorter ones are placeholders such as `lm-studio`."""

Structured = Literal["json_schema", "function_calling", "prompt"]
"""How a model is asked for structured output."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of a node. None means the default of the provider."""

    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A model that is ready to be called. `hidden` is its key, which every output must mask."""

    name: str
    chat: BaseChatModel
    structured: Structured
    price: Price | None = None
    has_finish_reason: bool = True
    """Its streams end with a finish reason, so a stream without one was cut off."""
    silence_s: float | None = None
    """Seconds that it may send nothing in the middle of an answer."""
    accepts_cut: bool = True
    """Whether the node accepts an answer that the token limit has cut."""
    hidden: str | None = field(default=None, repr=False)

    def usage(self, tokens: UsageMetadata | None) -> Usage:
        """Return the usage of a call.

        Without a report of the model, or with an impossible one: no tokens, and an unknown cost.
        """
        if tokens is None or not all(_is_count(tokens[name]) for name in ("input_tokens", "output_tokens")):
            return Usage(self.name)
        return Usage(self.name, tokens["input_tokens"], tokens["output_tokens"], self._cost(tokens))

    def _cost(self, tokens: UsageMetadata) -> float | None:
        if self.price is None:
            return None
        cached = tokens.get("input_token_details", {}).get("cache_read")
        cached = min(cached, tokens["input_tokens"]) if _is_count(cached) else 0
        cached_price = self.price.input if self.price.cached_input is None else self.price.cached_input
        fresh = (tokens["input_tokens"] - cached) * self.price.input
        return (fresh + cached * cached_price + tokens["output_tokens"] * self.price.output) / 1_000_000


def _is_count(value: object) -> TypeGuard[int]:
    """Return whether a value of an endpoint can be a number of tokens."""
    return type(value) is int and 0 <= value <= MAX_TOKENS


def is_hidden(key: str | None) -> bool:
    """Return whether a key has to be masked."""
    return key is not None and len(key) >= MIN_KEY


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model in the catalog and its state now. `problem` is the reason why it cannot be used."""

    name: str
    provider: str
    description: str
    context_window: int | None
    capabilities: tuple[Capability, ...]
    problem: str | None = None

    @property
    def available(self) -> bool:
        return self.problem is None
