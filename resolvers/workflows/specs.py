"""Specs and expressions: validate a spec, normalise it for storage, and evaluate an expression.

Nothing is run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import orjson

from engine.errors import NotStorable
from engine.expressions.evaluator import ExpressionError, ExpressionKind, evaluate_as
from engine.isolation import suspension
from engine.isolation.computation import compute
from engine.isolation.loop_share import loop_share
from engine.isolation.turns import Owner, QueueFull, working_for
from engine.problems import FieldProblem
from engine.runtime.single_node import build_scope
from engine.sdk.node_types import NodeTypes
from engine.spec.identity import hash_of_normal, normalise
from engine.states import Severity
from engine.types import JSON
from engine.validation.catalog_names import MODEL, TOOL, unknown_names
from engine.validation.handles import with_ports
from engine.validation.validator import ValidationReport, validate
from engine.values.large_values import off_loop
from engine.values.storable import check_storable
from persistence.problems import Invalid, TooManyEvaluations, invalid
from persistence.workflows.drafts import Content
from resolvers.context import Context

MAX_SPEC_BYTES = 1024 * 1024
SMALL_SPEC = 4 * 1024
"""Bytes of a spec that is validated on the event loop."""
MAX_WAITING = 8
"""Expensive expressions, and likewise large specs, of one caller that may wait for their turn.
Further ones are refused.
"""
SAMPLE_RUN_ID = "run_sample"
"""The `run.id` of an expression that is evaluated outside of any run."""
JSON_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


@dataclass(frozen=True, slots=True)
class ExpressionResult:
    """`type` is the JSON type of `value`. Both are None if there are errors."""

    value: JSON = None
    type: str | None = None
    errors: list[FieldProblem] = field(default_factory=list)


async def validated_spec(context: Context, spec: JSON) -> ValidationReport:
    """Validate a spec for a caller. A large one waits for its turn, and is checked in a thread.

    Raises:
        TooManyEvaluations: MAX_WAITING validations of this caller wait already.
    """
    subject = context.caller.subject
    with working_for(Owner(subject, subject, MAX_WAITING)):
        if is_small(spec):
            await loop_share().turn()
            return await suspension.call(validate, spec, context.node_types)
        try:
            return await compute(validate, spec, context.node_types)
        except QueueFull as full:
            raise TooManyEvaluations(f"The spec was not validated, because {full}. Try again.") from None


def is_small(spec: JSON) -> bool:
    try:
        return len(orjson.dumps(spec)) <= SMALL_SPEC
    except orjson.JSONEncodeError:
        return True  # It is refused at its first value that is no JSON.


async def report(context: Context, spec: JSON) -> ValidationReport:
    """Return all problems of a spec.

    A model or tool that the catalogs of this host lack is a warning.
    """
    validated = await validated_spec(context, spec)
    if validated.spec is None:
        return validated
    resources = {MODEL: context.resources.get("models"), TOOL: context.resources.get("tools")}
    catalogs = {name: catalog for name, catalog in resources.items() if catalog is not None}
    warnings = [*validated.warnings, *unknown_names(validated.spec, context.node_types, catalogs)]
    return replace(validated, warnings=warnings)


def content_to_save(context: Context, spec: JSON) -> Content:
    """Return the normalised spec with its hash.

    It may be unfinished, but must be a storable object of at most 1 MiB.

    Raises:
        Invalid: The spec is no object, not storable or too large.
    """
    if not isinstance(spec, dict):
        raise invalid("input.spec", "NOT_AN_OBJECT", f"A spec must be an object, not {_type_of(spec)}.")
    return off_loop(partial(_content, types=context.node_types), spec)


def _content(spec: JSON, *, types: NodeTypes) -> Content:
    _check_size(spec)
    normal = normalise(with_ports(spec, types))
    return Content(normal, hash_of_normal(normal))


def _check_size(spec: JSON) -> None:
    try:
        check_storable(spec)
    except NotStorable as error:
        raise invalid("input.spec" + error.path, "NOT_STORABLE", str(error)) from error
    size = len(orjson.dumps(spec))
    if size > MAX_SPEC_BYTES:
        raise invalid(
            "input.spec", "TOO_LARGE", f"The spec has {size:,} bytes of JSON, over the limit of {MAX_SPEC_BYTES:,}."
        )


async def check_runnable(context: Context, spec: JSON) -> None:
    """Raise Invalid with all errors of the spec, if there are any. Warnings are ignored."""
    validated = await validated_spec(context, spec)
    if not validated.ok:
        raise Invalid(validated.errors)


async def draft_problems(context: Context, spec: JSON) -> list[FieldProblem]:
    """Return all errors of a spec, then its warnings."""
    validated = await report(context, spec)
    return [*validated.errors, *validated.warnings]


async def evaluate_with_sample(
    text: str, sample: JSON, kind: ExpressionKind | None = None, *, subject: str
) -> ExpressionResult:
    """Evaluate text with sample values, which have the names that a template sees in a run.

    Args:
        text: The text.
        sample: `{input, nodes: {id: {output}}, …}`, as for `testNode`.
        kind: How the text is evaluated; see `evaluator.evaluate_as`.
        subject: The caller, for whose turn an expensive text waits.
    """
    if not isinstance(sample, Mapping):
        problem = FieldProblem("context", "NOT_AN_OBJECT", f"A context must be an object, not {_type_of(sample)}.")
        return ExpressionResult(errors=[problem])
    return await evaluate_expression(text, _sample_scope(sample), kind, subject=subject)


def _sample_scope(sample: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Build the scope. Earlier clients may send `nodes` of another form, which is an ordinary name."""
    nodes = sample.get("nodes", {})
    has_nodes = isinstance(nodes, Mapping) and all(isinstance(node, Mapping) for node in nodes.values())
    return build_scope(sample, SAMPLE_RUN_ID) if has_nodes else sample


async def evaluate_expression(
    text: str, scope: Mapping[str, JSON], kind: ExpressionKind | None = None, *, subject: str
) -> ExpressionResult:
    """Evaluate text for a caller; see `evaluator.evaluate_as`.

    An expensive text waits for its turn among all callers, and is evaluated in a child process.
    """
    with working_for(Owner(subject, subject, MAX_WAITING)):
        return await suspension.call(_evaluate, text, scope, kind)


def _evaluate(text: str, scope: Mapping[str, JSON], kind: ExpressionKind | None) -> ExpressionResult:
    try:
        value = evaluate_as(kind, text, scope)
        off_loop(check_storable, value)
    except ExpressionError as error:
        problem = FieldProblem("expression", "EXPRESSION", error.message, line=error.line, column=error.column)
        return ExpressionResult(errors=[problem])
    except NotStorable as error:
        return ExpressionResult(errors=[FieldProblem("expression", "OUTPUT", str(error), Severity.ERROR)])
    return ExpressionResult(value, _type_of(value))


def _type_of(value: JSON) -> str:
    return JSON_TYPES.get(type(value), type(value).__name__)
