"""Specs and expressions: validate a spec, normalise it for storage, and evaluate an expression.

Nothing is run.
"""

from asyncio import to_thread
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import orjson

from engine.errors import NotStorable
from engine.expressions.evaluator import ExpressionError, evaluate, is_expression, render
from engine.expressions.lexer import has_code
from engine.problems import FieldProblem
from engine.spec.identity import hash_of_normal, normalise
from engine.states import Severity
from engine.types import JSON
from engine.validation.catalog_names import MODEL, TOOL, unknown_names
from engine.validation.validator import ValidationReport, validate
from engine.values.storable import check_storable
from persistence.problems import Invalid, invalid
from persistence.workflows.drafts import Content
from resolvers.context import Context

MAX_SPEC_BYTES = 1024 * 1024
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


def report(context: Context, spec: JSON) -> ValidationReport:
    """Return all problems of a spec.

    A model or tool that the catalogs of this host lack is a warning.
    """
    validated = validate(spec, context.node_types)
    if validated.spec is None:
        return validated
    resources = {MODEL: context.resources.get("models"), TOOL: context.resources.get("tools")}
    catalogs = {name: catalog for name, catalog in resources.items() if catalog is not None}
    warnings = [*validated.warnings, *unknown_names(validated.spec, context.node_types, catalogs)]
    return replace(validated, warnings=warnings)


def content_to_save(spec: JSON) -> Content:
    """Return the normalised spec with its hash.

    It may be unfinished, but must be a storable object of at most 1 MiB.

    Raises:
        Invalid: The spec is no object, not storable or too large.
    """
    if not isinstance(spec, dict):
        raise invalid("input.spec", "NOT_AN_OBJECT", f"A spec must be an object, not {_type_of(spec)}.")
    _check_size(spec)
    normal = normalise(spec)
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


def check_runnable(context: Context, spec: JSON) -> None:
    """Raise Invalid with all errors of the spec, if there are any. Warnings are ignored."""
    validated = validate(spec, context.node_types)
    if not validated.ok:
        raise Invalid(validated.errors)


def draft_problems(context: Context, spec: JSON) -> list[FieldProblem]:
    """Return all errors of a spec, then its warnings."""
    validated = report(context, spec)
    return [*validated.errors, *validated.warnings]


async def evaluate_expression(expression: str, scope: JSON) -> ExpressionResult:
    """Evaluate text as an expression, or else as a template if it holds `{{ … }}` or `{% … %}`.

    It runs in a thread, because the caller waits for a child process if the text is expensive.
    """
    return await to_thread(_evaluate, expression, scope)


def _evaluate(expression: str, scope: JSON) -> ExpressionResult:
    if not isinstance(scope, Mapping):
        problem = FieldProblem("context", "NOT_AN_OBJECT", f"A context must be an object, not {_type_of(scope)}.")
        return ExpressionResult(errors=[problem])
    try:
        value = _value_of(expression, scope)
        check_storable(value)
    except ExpressionError as error:
        problem = FieldProblem("expression", "EXPRESSION", error.message, line=error.line, column=error.column)
        return ExpressionResult(errors=[problem])
    except NotStorable as error:
        return ExpressionResult(errors=[FieldProblem("expression", "OUTPUT", str(error), Severity.ERROR)])
    return ExpressionResult(value, _type_of(value))


def _value_of(expression: str, scope: Mapping[str, JSON]) -> JSON:
    if has_code(expression) and not is_expression(expression):
        return render(expression, scope)
    return evaluate(expression, scope)


def _type_of(value: JSON) -> str:
    return JSON_TYPES.get(type(value), type(value).__name__)
