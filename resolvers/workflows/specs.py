"""Specs that are looked at and never run: what is wrong with one, how it is stored, what an expression gives."""

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
    """`type` names the JSON type of `value`; both are None where there are errors."""

    value: JSON = None
    type: str | None = None
    errors: list[FieldProblem] = field(default_factory=list)


def report(context: Context, spec: JSON) -> ValidationReport:
    """Everything wrong with a spec at once; what this host's catalogs lack is a warning."""
    found = validate(spec, context.node_types)
    if found.spec is None:
        return found
    named = {MODEL: context.resources.get("models"), TOOL: context.resources.get("tools")}
    here = {name: catalog for name, catalog in named.items() if catalog is not None}
    return replace(found, warnings=[*found.warnings, *unknown_names(found.spec, context.node_types, here)])


def content_to_save(spec: JSON) -> Content:
    """A draft may be half done, so little is asked of it: an object of storable JSON, at most 1 MiB."""
    if not isinstance(spec, dict):
        raise invalid("input.spec", "NOT_AN_OBJECT", f"A spec is an object, not {_type_of(spec)}.")
    _check_size(spec)
    normal = normalise(spec)
    return Content(normal, hash_of_normal(normal))


def _check_size(spec: JSON) -> None:
    try:
        check_storable(spec)
    except NotStorable as wrong:
        raise invalid("input.spec" + wrong.path, "NOT_STORABLE", str(wrong)) from wrong
    size = len(orjson.dumps(spec))
    if size > MAX_SPEC_BYTES:
        raise invalid("input.spec", "TOO_LARGE", f"The spec is {size:,} bytes of JSON, over {MAX_SPEC_BYTES:,}.")


def check_runnable(context: Context, spec: JSON) -> None:
    """Raises Invalid with all errors of the spec; warnings pass."""
    found = validate(spec, context.node_types)
    if not found.ok:
        raise Invalid(found.errors)


def draft_problems(context: Context, spec: JSON) -> list[FieldProblem]:
    found = report(context, spec)
    return [*found.errors, *found.warnings]


async def evaluate_expression(expression: str, scope: JSON) -> ExpressionResult:
    """What can be read as an expression is one; other text that holds `{{ … }}` or `{% … %}` is a template."""
    # In a thread: what is heavy is waited for, and nobody else should have to.
    return await to_thread(_evaluated, expression, scope)


def _evaluated(expression: str, scope: JSON) -> ExpressionResult:
    if not isinstance(scope, Mapping):
        problem = FieldProblem("context", "NOT_AN_OBJECT", f"A context is an object, not {_type_of(scope)}.")
        return ExpressionResult(errors=[problem])
    try:
        value = _value_of(expression, scope)
        check_storable(value)
    except ExpressionError as wrong:
        problem = FieldProblem("expression", "EXPRESSION", wrong.message, line=wrong.line, column=wrong.column)
        return ExpressionResult(errors=[problem])
    except NotStorable as wrong:
        return ExpressionResult(errors=[FieldProblem("expression", "OUTPUT", str(wrong), Severity.ERROR)])
    return ExpressionResult(value, _type_of(value))


def _value_of(expression: str, scope: Mapping[str, JSON]) -> JSON:
    if has_code(expression) and not is_expression(expression):
        return render(expression, scope)
    return evaluate(expression, scope)


def _type_of(value: JSON) -> str:
    return JSON_TYPES.get(type(value), type(value).__name__)
