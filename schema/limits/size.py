"""How large an operation is, told from its text alone: before validation, whose own work grows with the square of it.

Fragments count wherever they are spread. Each is walked once, so that a tower of them that doubles at every storey is
counted as fast as any other text. Unknown fragments and cycles add nothing: validation has its own words for them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

MAX_FIELDS = 400
"""Introspection with everything in it has 243."""
MAX_ALIASES = 50
MAX_DEPTH = 15


@dataclass(slots=True)
class OperationSize:
    """`depth`: how far fields are inside each other. Introspection, for which validation has a limit, is left out of it."""

    fields: int = 0
    aliases: int = 0
    depth: int = 0
    spreads: list[tuple[str, int]] = field(default_factory=list)
    """What is still to be added: (fragment, the depth it is spread at)."""

    def add(self, other: "OperationSize", depth: int = 0) -> None:
        self.fields += other.fields
        self.aliases += other.aliases
        self.depth = max(self.depth, depth + other.depth)


def too_large(document: DocumentNode) -> str | None:
    """What is too much about the document, with the limit; None for one that is fine."""
    whole = _whole(document)
    for name, count, limit in (
        ("fields", whole.fields, MAX_FIELDS),
        ("aliases", whole.aliases, MAX_ALIASES),
        ("levels of fields", whole.depth, MAX_DEPTH),
    ):
        if count > limit:
            shown = f"{count:,}" if count < 10**9 else "more than a billion"
            return f"The operation has {shown} {name}, over the limit of {limit:,}. Split it up."
    return None


def _whole(document: DocumentNode) -> OperationSize:
    """All operations of the document together. Each definition counts as a field, so that there are not too many of them."""
    own = {one.name.value: _own(one) for one in document.definitions if isinstance(one, FragmentDefinitionNode)}
    fragments: dict[str, OperationSize] = {}
    for name in _inner_first(own):
        fragments[name] = _summed(own[name], fragments)
    whole = OperationSize(fields=len(document.definitions))
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            whole.add(_summed(_own(definition), fragments))
    return whole


def _own(definition: OperationDefinitionNode | FragmentDefinitionNode) -> OperationSize:
    shape = OperationSize()
    stack: list[tuple[SelectionSetNode, int]] = [(definition.selection_set, 0)]
    while stack:
        selections, depth = stack.pop()
        shape.depth = max(shape.depth, depth)
        shape.fields += len(selections.selections)
        for one in selections.selections:
            match one:
                case FragmentSpreadNode():
                    shape.spreads.append((one.name.value, depth))
                case InlineFragmentNode():
                    stack.append((one.selection_set, depth))
                case FieldNode():
                    shape.aliases += one.alias is not None
                    if one.selection_set is not None:
                        stack.append((one.selection_set, depth + (not one.name.value.startswith("__"))))
    return shape


def _summed(shape: OperationSize, fragments: dict[str, OperationSize]) -> OperationSize:
    whole = OperationSize(shape.fields, shape.aliases, shape.depth)
    for name, depth in shape.spreads:
        if name in fragments:
            whole.add(fragments[name], depth)
    return whole


def _inner_first(own: dict[str, OperationSize]) -> Iterator[str]:
    """The fragments, each after those that it spreads; without recursion, which a long chain of them would exhaust."""
    begun: set[str] = set()
    for root in own:
        path = [] if root in begun else [(root, iter(own[root].spreads))]
        begun.add(root)
        while path:
            _, spreads = path[-1]
            inner = next((one for one, _ in spreads if one in own and one not in begun), None)
            if inner is None:
                yield path.pop()[0]
            else:
                begun.add(inner)
                path.append((inner, iter(own[inner].spreads)))
