"""Size of a document: the number of fields and the levels of nesting, counted from its syntax tree.

It is checked before validation, whose work grows with the square of the size. A fragment counts at
every spread. Each fragment is counted once and its result reused, so that fragments that spread
others twice take linear time, not exponential time. Unknown fragments and cycles add nothing:
validation reports them.
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
"""The full introspection query has 243."""
MAX_DEPTH = 15


@dataclass(slots=True)
class OperationSize:
    """Number of selections and levels of nested fields.

    Introspection adds no level: validation limits it.
    """

    fields: int = 0
    depth: int = 0
    spreads: list[tuple[str, int]] = field(default_factory=list)
    """Fragments whose size is still to be added: (fragment name, level of the spread)."""

    def add(self, other: "OperationSize", depth: int = 0) -> None:
        """Add a fragment that is spread at the level `depth`."""
        self.fields += other.fields
        self.depth = max(self.depth, depth + other.depth)


def size_problem(document: DocumentNode) -> str | None:
    """Return a message with number and limit for a document that is too large, else None."""
    size = _document_size(document)
    for name, count, limit in (("fields", size.fields, MAX_FIELDS), ("levels of fields", size.depth, MAX_DEPTH)):
        if count > limit:
            number = f"{count:,}" if count < 10**9 else "more than a billion"
            return f"The operation has {number} {name}, over the limit of {limit:,}. Split it up."
    return None


def _document_size(document: DocumentNode) -> OperationSize:
    """Return the size of all operations together.

    Each definition counts as a field, which limits their number.
    """
    own = {
        node.name.value: _own_size(node) for node in document.definitions if isinstance(node, FragmentDefinitionNode)
    }
    fragments: dict[str, OperationSize] = {}
    for name in _in_spread_order(own):
        fragments[name] = _expanded(own[name], fragments)
    total = OperationSize(fields=len(document.definitions))
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            total.add(_expanded(_own_size(definition), fragments))
    return total


def _own_size(definition: OperationDefinitionNode | FragmentDefinitionNode) -> OperationSize:
    """Return the size of one definition, with its spreads listed but not added."""
    size = OperationSize()
    stack: list[tuple[SelectionSetNode, int]] = [(definition.selection_set, 0)]
    while stack:
        selections, depth = stack.pop()
        size.depth = max(size.depth, depth)
        size.fields += len(selections.selections)
        for node in selections.selections:
            match node:
                case FragmentSpreadNode():
                    size.spreads.append((node.name.value, depth))
                case InlineFragmentNode():
                    stack.append((node.selection_set, depth))
                case FieldNode(selection_set=SelectionSetNode() as inner):
                    stack.append((inner, depth + (not node.name.value.startswith("__"))))
    return size


def _expanded(size: OperationSize, fragments: dict[str, OperationSize]) -> OperationSize:
    """Return the size with the known fragments added at each spread."""
    expanded = OperationSize(size.fields, size.depth)
    for name, depth in size.spreads:
        if name in fragments:
            expanded.add(fragments[name], depth)
    return expanded


def _in_spread_order(own: dict[str, OperationSize]) -> Iterator[str]:
    """Yield each fragment after those that it spreads (depth-first postorder).

    It is not recursive: a long chain of fragments would exceed Python's recursion limit.
    """
    visited: set[str] = set()
    for root in own:
        path = [] if root in visited else [(root, iter(own[root].spreads))]
        visited.add(root)
        while path:
            _, spreads = path[-1]
            inner = next((name for name, _ in spreads if name in own and name not in visited), None)
            if inner is None:
                yield path.pop()[0]
            else:
                visited.add(inner)
                path.append((inner, iter(own[inner].spreads)))
