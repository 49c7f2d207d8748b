"""What can be wrong with the templates of a spec: their syntax, and the nodes they ask for. Evaluates nothing.

Which texts are templates is what the JSON Schema of a node type says: `format` is `template` or `expression`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from minijinja import TemplateError

from engine.expressions import evaluator
from engine.expressions.analysis import OF_AN_ITEM, Use, uses
from engine.problems import FieldProblem
from engine.sdk.annotations import MapScope, TemplateText
from engine.spec.template_fields import secrets_in

SCOPE = frozenset({"input", "nodes", "run", "secrets"})


@dataclass(frozen=True, slots=True)
class Reader:
    """The node or edge that a text belongs to. `before` are the bits of the nodes that can have run; None: all."""

    node_id: str | None
    edge_id: str | None
    before: int | None


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes that a text may ask for. `unread` are there, but nothing more is known of them."""

    bits: Mapping[str, int]
    unread: frozenset[str]

    def check(self, text: TemplateText, reader: Reader) -> Iterator[FieldProblem]:
        """Everything wrong with one text, as far as can be told before it is evaluated."""
        for message, line, column in evaluator.check(text.text, expression=text.is_expression):
            yield FieldProblem(
                text.path, "TEMPLATE", message, node_id=reader.node_id, edge_id=reader.edge_id, line=line, column=column
            )
        try:
            used = uses(text.text, expression=text.is_expression).uses
        except TemplateError:
            return  # said above
        found = [(use, self._wrong(use, reader, text.inside)) for use in used]
        found += [(use, _wrong_secret(use, text)) for use in secrets_in(text)]
        for use, wrong in sorted(found, key=lambda one: (one[0].line, one[0].column)):
            if wrong is not None:
                yield FieldProblem(
                    text.path,
                    *wrong,
                    node_id=reader.node_id,
                    edge_id=reader.edge_id,
                    line=use.line,
                    column=use.column,
                )

    def _wrong(self, use: Use, reader: Reader, inside: MapScope | None) -> tuple[str, str] | None:
        if inside is not None and use.name in inside.bits:
            return _early(use, inside.bits[use.name], inside.before)
        if inside is not None and not use.is_node and use.name in OF_AN_ITEM:
            return None
        if use.name in self.unread or (not use.is_node and use.name in SCOPE):
            return None
        bit = self.bits.get(use.name)
        if bit is None and use.is_node:
            return "UNKNOWN_NODE", f"there is no node {use.name!r}"
        if bit is None:
            if use.name in OF_AN_ITEM and inside is None:
                return "UNKNOWN_NAME", f"`{use.name}` is known inside a `map` alone"
            told = f"{use.name!r} is neither a node nor `input`, `nodes`, `run` or `secrets`"
            return "UNKNOWN_NAME", told + self._meant(use.name)
        return _early(use, bit, reader.before)

    def _meant(self, name: str) -> str:
        """`my-node.output` is a difference: what may have been meant by `my`."""
        for node_id in self.bits:
            if node_id.startswith((f"{name}-", f"{name}.")):
                return f'; a node whose id has other signs is written `nodes["{node_id}"]`'
        return ""


def _early(use: Use, bit: int, before: int | None) -> tuple[str, str] | None:
    if before is None or before & bit:
        return None
    return "NOT_YET_RUN", f"node {use.name!r} cannot have run yet: no way leads from it to here"


def _wrong_secret(use: Use, text: TemplateText) -> tuple[str, str] | None:
    if not text.sees_secrets:
        return "SECRET", f"secrets are known inside node calls alone: {text.path} sees none"
    if not use.name:
        return "SECRET", "a secret is asked for by its name alone: `secrets.name` or `secrets['name']`"
    return None
