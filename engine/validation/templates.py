"""Checks of one template: its syntax, and the nodes and secrets that it names.

Evaluates nothing.

The JSON Schema of a node type says which texts are templates: `format` is `template` or
`expression`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from minijinja import TemplateError

from engine.expressions import evaluator
from engine.expressions.analysis import MAP_NAMES, NameUse, analyze
from engine.problems import FieldProblem
from engine.sdk.annotations import MapScope, TemplateText
from engine.spec.template_fields import secrets_in

SCOPE = frozenset({"input", "nodes", "run", "secrets"})
"""The names that every template may use."""

Error = tuple[str, str]
"""The code and the message of a problem."""


@dataclass(frozen=True, slots=True)
class Reader:
    """The node or edge that a template belongs to.

    `before` holds the bits of the nodes that can have run before it; None means all nodes.
    """

    node_id: str | None
    edge_id: str | None
    before: int | None


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes that a template may name.

    Those in `unparsed` exist, but their node could not be parsed.
    """

    bits: Mapping[str, int]
    unparsed: frozenset[str]

    def check(self, text: TemplateText, reader: Reader) -> Iterator[FieldProblem]:
        """Find the problems of one template without evaluating it, in the order of the text."""
        for message, line, column in evaluator.check(text.text, expression=text.is_expression):
            yield _problem(text, reader, ("TEMPLATE", message), line, column)
        try:
            names = analyze(text.text, expression=text.is_expression).uses
        except TemplateError:
            return  # the syntax error is reported above
        checked = [(use, self._name_error(use, reader, text.inside)) for use in names]
        checked += [(use, _secret_error(use, text)) for use in secrets_in(text)]
        for use, error in sorted(checked, key=lambda pair: (pair[0].line, pair[0].column)):
            if error is not None:
                yield _problem(text, reader, error, use.line, use.column)

    def _name_error(self, use: NameUse, reader: Reader, inside: MapScope | None) -> Error | None:
        if inside is not None and use.name in inside.bits:
            return _order_error(use, inside.bits[use.name], inside.before)
        if inside is not None and not use.is_node and use.name in MAP_NAMES:
            return None
        if use.name in self.unparsed or (not use.is_node and use.name in SCOPE):
            return None
        bit = self.bits.get(use.name)
        if bit is None and use.is_node:
            return "UNKNOWN_NODE", f"there is no node {use.name!r}"
        if bit is None:
            if use.name in MAP_NAMES and inside is None:
                return "UNKNOWN_NAME", f"`{use.name}` is defined only inside a `map`"
            message = f"{use.name!r} is neither a node nor `input`, `nodes`, `run` or `secrets`"
            return "UNKNOWN_NAME", message + self._suggestion(use.name)
        return _order_error(use, bit, reader.before)

    def _suggestion(self, name: str) -> str:
        """Suggest a node id that begins with the name.

        `my-node.output` is parsed as `my` minus `node.output`.
        """
        for node_id in self.bits:
            if node_id.startswith((f"{name}-", f"{name}.")):
                return f'; a node id with `-` or `.` is written `nodes["{node_id}"]`'
        return ""


def _problem(text: TemplateText, reader: Reader, error: Error, line: int | None, column: int | None) -> FieldProblem:
    code, message = error
    return FieldProblem(
        text.path, code, message, node_id=reader.node_id, edge_id=reader.edge_id, line=line, column=column
    )


def _order_error(use: NameUse, bit: int, before: int | None) -> Error | None:
    if before is None or before & bit:
        return None
    return "NOT_YET_RUN", f"node {use.name!r} cannot have run yet: no path leads from it to this node"


def _secret_error(use: NameUse, text: TemplateText) -> Error | None:
    if not text.sees_secrets:
        return "SECRET", (
            "the result of this field is stored, so it cannot use `secrets`: name the secret in the node that sends "
            "or checks it, such as a header of `http`, an argument of `tool` or the `input_mapping` of `code`"
        )
    if not use.name:
        return "SECRET", "name a secret directly: `secrets.name` or `secrets['name']`"
    return None
