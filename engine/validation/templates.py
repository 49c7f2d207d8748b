"""Checks of one template: its syntax, and the nodes and secrets that it names.

Evaluates nothing.

The JSON Schema of a node type says which texts are templates: `format` is `template` or
`expression`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from minijinja import TemplateError

from engine.expressions import evaluator
from engine.expressions.analysis import MAP_NAMES, SECRETS, THREAD, NameUse, analyze
from engine.problems import FieldProblem
from engine.sdk.annotations import MapScope, TemplateText
from engine.sdk.node import ERROR_PORT
from engine.spec.callbacks import CALLBACK_URL
from engine.spec.template_fields import secrets_in

SCOPE = frozenset({"input", "nodes", "run", "secrets"})
"""The names that every template may use."""

MAX_COMPARED, MAX_NAME = 8, 64
"""Names, and characters of a name, that are compared for a suggestion. A spec may have thousands."""
SIMILARITY = 0.75
"""How similar a suggested name is; see difflib.get_close_matches."""

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
    callbacks: Callable[[str | None], tuple[str, ...]] | None = None
    """Returns the nodes that `callback_url` may mean in a node; None if the spec has no such nodes."""

    def check(self, text: TemplateText, reader: Reader) -> Iterator[FieldProblem]:
        """Find the problems of one template without evaluating it, in the order of the text."""
        problems = evaluator.check(text.text, expression=text.is_expression)
        for message, line, column in problems:
            yield _problem(text, reader, ("TEMPLATE", message), line, column)
        places = {(line, column) for _, line, column in problems}
        try:
            names = analyze(text.text, expression=text.is_expression).uses
        except TemplateError:
            return  # the syntax error is reported above
        checked = [(use, self._name_error(use, reader, text)) for use in names]
        checked += [(use, _secret_error(use, text)) for use in secrets_in(text)]
        for use, error in sorted(checked, key=lambda pair: (pair[0].line, pair[0].column)):
            if error is not None and (use.line, use.column) not in places:
                yield _problem(text, reader, error, use.line, use.column)

    def _name_error(self, use: NameUse, reader: Reader, text: TemplateText) -> Error | None:
        inside = text.inside
        if inside is not None and use.name in inside.bits:
            return _order_error(use, inside.bits[use.name], inside.before)
        if inside is not None and not use.is_node and use.name in MAP_NAMES:
            return None
        if use.name in self.unparsed or (not use.is_node and use.name in SCOPE):
            return None
        bit = self.bits.get(use.name)
        if bit is None and use.name == THREAD and not use.is_node and text.sees_thread:
            return None
        if bit is None and use.name == CALLBACK_URL and not use.is_node and reader.edge_id is None and reader.node_id:
            return self._callback_error(reader.node_id)
        if bit is None and use.is_node:
            return "UNKNOWN_NODE", f"there is no node {use.name!r}"
        if bit is None:
            if use.name in MAP_NAMES and inside is None:
                return "UNKNOWN_NAME", f"`{use.name}` is defined only inside a `map`"
            if use.name == THREAD and not text.sees_thread:
                return "UNKNOWN_NAME", "`thread` is defined only in the templates of `llm` and `agent`"
            names = _names_in(text)
            message = f"{use.name!r} is neither a node nor {', '.join(names[:-1])} or {names[-1]}"
            return "UNKNOWN_NAME", message + self._suggestion(use.name, inside)
        if self.callbacks is not None and use.name in self.callbacks(None):
            return None  # Its address is known before it runs.
        return _order_error(use, bit, reader.before)

    def _callback_error(self, node_id: str) -> Error | None:
        nearest = () if self.callbacks is None else self.callbacks(node_id)
        if not nearest:
            return "UNKNOWN_NAME", "`callback_url` needs a node of the type `wait_event`, whose address it is"
        if len(nearest) > 1:
            names = " or ".join(f'`nodes["{name}"].callback_url`' for name in nearest[:5])
            return "AMBIGUOUS", f"several nodes that wait for an event follow this one: write {names}"
        return None

    def _suggestion(self, name: str, inside: MapScope | None) -> str:
        """Suggest what the author may have meant.

        `my-node.output` is parsed as `my` minus `node.output`.
        """
        ids = [*self.bits, *(inside.bits if inside else ())]
        for node_id in ids:
            if node_id.startswith((f"{name}-", f"{name}.")):
                return f'; a node id with `-` or `.` is written `nodes["{node_id}"]`'
        if name == ERROR_PORT:
            return "; the error of a node with `onError: branch` is `node_id.output.error`"
        near = get_close_matches(name[:MAX_NAME], _alike(name, ["input", "nodes", "run", *ids]), 1, SIMILARITY)
        return f"; did you mean `{near[0]}`?" if near else ""


def _alike(name: str, others: list[str]) -> list[str]:
    """Select names with the same first letter and about the same length."""
    alike = (other for other in others if other[:1] == name[:1] and abs(len(other) - len(name)) <= 2)
    return list(islice(alike, MAX_COMPARED))


def _names_in(text: TemplateText) -> list[str]:
    """Return the names that the text may use besides nodes, for a message."""
    names = ["input", "nodes", "run"]
    names += sorted(MAP_NAMES, reverse=True) if text.inside is not None else []
    names += [SECRETS] if text.sees_secrets else []
    return [f"`{name}`" for name in names]


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
