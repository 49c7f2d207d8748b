"""Parses and validates each operation's text once a process: clients send the same few texts over and over.

Strawberry's own caches key validation by document and rules; our limits are rules made anew each request, so theirs
never hits. The schema and the limits are the same for all requests here, so the text alone is the key.
"""

from collections import OrderedDict
from collections.abc import Iterator

from graphql import DocumentNode
from strawberry.extensions import SchemaExtension

SIZE = 256
"""Operations kept."""
MAX_TEXT = 20_000
"""Characters of the longest one: the token limit alone lets a single string be as long as the request."""
_valid: OrderedDict[str, DocumentNode] = OrderedDict()


class OperationCache(SchemaExtension):
    """Only valid operations are kept, so that a text with a mistake is explained each time."""

    def on_parse(self) -> Iterator[None]:
        context = self.execution_context
        known = _valid.get(context.query or "")
        if known is not None:
            context.graphql_document = known
        yield

    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        text, document = context.query or "", context.graphql_document
        if text in _valid:
            _valid.move_to_end(text)
            context.pre_execution_errors = []
        yield
        if not context.pre_execution_errors and document is not None and len(text) <= MAX_TEXT:
            _valid[text] = document
            if len(_valid) > SIZE:
                _valid.popitem(last=False)
