"""Estimates of tokens, for the windows of conversations.

Each model has its own tokenizer, and most of them are not public. So one estimate serves all models: a
token for every three bytes of UTF-8. English has about four bytes in a token, program code and Chinese
about three, so the estimate is rather too high than too low.
"""

from collections.abc import Iterable

BYTES_PER_TOKEN = 3
MESSAGE_TOKENS = 4
"""Tokens of the frame of a message: its role, its beginning and its end."""


def estimate_tokens(texts: Iterable[str]) -> int:
    """Estimate the tokens of a conversation, whose messages are `texts`."""
    return sum(MESSAGE_TOKENS - -len(text.encode(errors="replace")) // BYTES_PER_TOKEN for text in texts)
