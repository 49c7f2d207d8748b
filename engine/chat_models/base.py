"""What a model is to nodes that use one, what the catalog says of it, and what a call to it may cost."""

from dataclasses import dataclass, field
from typing import Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages.ai import UsageMetadata

from engine.catalog_file import Capability, Price
from engine.events import Usage

MIN_KEY = 16
"""Characters of a key that nothing may show; shorter ones are words such as `lm-studio`, for endpoints that want any."""

Structured = Literal["json_schema", "function_calling", "prompt"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a node asks of a model beside its messages; None leaves it to the provider."""

    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A model ready to be called. `hidden` is its key, which nothing that we tell may hold."""

    name: str
    chat: BaseChatModel
    structured: Structured
    price: Price | None = None
    tells_its_end: bool = True
    """Its streams end with a finish reason; one that does not was cut off."""
    silence_s: float | None = None
    """How long it may say nothing in the middle of an answer."""
    hidden: str | None = field(default=None, repr=False)

    def usage(self, tokens: UsageMetadata | None) -> Usage:
        """What a call took; where the model did not tell, nothing, at a cost that is not known."""
        if tokens is None:
            return Usage(self.name)
        return Usage(self.name, tokens["input_tokens"], tokens["output_tokens"], self._cost(tokens))

    def _cost(self, tokens: UsageMetadata) -> float | None:
        if self.price is None:
            return None
        cached = min(tokens.get("input_token_details", {}).get("cache_read") or 0, tokens["input_tokens"])
        cached_price = self.price.input if self.price.cached_input is None else self.price.cached_input
        fresh = (tokens["input_tokens"] - cached) * self.price.input
        return (fresh + cached * cached_price + tokens["output_tokens"] * self.price.output) / 1_000_000


def is_hidden(key: str | None) -> bool:
    return key is not None and len(key) >= MIN_KEY


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of the catalog, as it stands now. `problem` says why the model is not available."""

    name: str
    provider: str
    description: str
    context_window: int | None
    capabilities: tuple[Capability, ...]
    problem: str | None = None

    @property
    def available(self) -> bool:
        return self.problem is None
