"""Admission of operations: parse, limit and validate each text once, and check each call.

The order of the limits follows what they protect. Characters and tokens are limited before and
during parsing, the size before validation (whose work grows with the square of it), and the cost,
which depends on the variables of each call, before any store is read. `schema.Schema` is the only
caller. The cache is memory only, so a crash loses nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cachetools import LRUCache
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    parse,
    specified_rules,
    validate,
)
from strawberry.extensions import MaxAliasesLimiter
from strawberry.schema.schema import validate_document

from engine.isolation.computation import compute
from persistence.problems import ProblemCode
from schema.limits.cost import MAX_COST, CallVariables, OperationCost, operation_cost
from schema.limits.size import size_problem
from schema.limits.variables import variables_problem

MAX_TEXT = 100_000
"""Characters. Specs and inputs belong in variables, which are not counted."""
MAX_TOKENS = 10_000
"""graphql-core stops parsing at this token; Strawberry's MaxTokensLimiter sets the same option."""
MAX_ALIASES = 50
RULES = (*MaxAliasesLimiter(MAX_ALIASES).validation_rules, *specified_rules)
"""Strawberry's alias rule expands each fragment again at every spread, which takes exponential time
for fragments that spread others twice. `size_problem` has refused such documents before.

Strawberry's QueryDepthLimiter has the same weakness, fails with KeyError for an unknown fragment,
and runs after the point where deep nesting has to be refused. So `size` limits the levels."""
LIMIT_ENDINGS = ("Parsing aborted.", "Validation aborted.", "depth exceeded", f"Allowed: {MAX_ALIASES}")
"""How graphql-core and Strawberry end the messages about their own limits."""
SMALL_TEXT = 700
"""Characters of a text that is validated on the event loop. The worst takes 10 ms; of 3,000 it takes 0.15 s."""
MAX_CACHED, MAX_CACHED_TEXT = 256, 20_000
"""Number of cached documents, and the length in characters of the longest text that is cached."""


_INTROSPECTION = re.compile(r"\b__(?:schema|type)\b")


class OperationRefused(Exception):
    """The operation exceeds a limit or is not valid; `errors` say why."""

    def __init__(self, *errors: GraphQLError) -> None:
        super().__init__(errors[0].message)
        self.errors = list(errors)


@dataclass(frozen=True, slots=True)
class AdmittedOperation:
    """A validated document, and the cost of this call of its operation in points."""

    document: DocumentNode
    points: int


@dataclass(slots=True)
class ValidDocument:
    """A valid document, and the cost of each of its operations that has been called."""

    document: DocumentNode
    costs: dict[str | None, OperationCost] = field(default_factory=dict)


_documents: LRUCache[str, ValidDocument] = LRUCache(MAX_CACHED)
"""Valid documents by text. A text with errors is parsed again each time: its errors have to be
explained."""


def admit(schema: GraphQLSchema, text: str, name: str | None, variables: Mapping[str, Any]) -> AdmittedOperation:
    """Return the validated document and the cost of an operation that is within all limits.

    Args:
        schema: The schema that the operation is validated against.
        text: The document; it may hold several operations.
        name: The name of the operation to run; None where the document holds only one.
        variables: The values of this call by name, not yet coerced.

    Raises:
        OperationRefused: A limit is exceeded (code LIMIT), or the document is not valid
            (VALIDATION).
    """
    valid = _documents.get(text)
    if valid is None:
        valid = _remember(text, _parsed(schema, text))
    operation = _operation(valid.document, name)
    if (message := variables_problem(schema, operation, variables)) is not None:
        raise OperationRefused(_limit_error(message))
    if name not in valid.costs:
        valid.costs[name] = operation_cost(schema, valid.document, operation)
    call = CallVariables(variables)
    points = valid.costs[name].points(call) + call.points()
    _check_cost(points)
    return AdmittedOperation(valid.document, points)


async def admit_off_loop(
    schema: GraphQLSchema, text: str, name: str | None, variables: Mapping[str, Any]
) -> AdmittedOperation:
    """Do the same as `admit`; a long text is parsed and validated in a thread.

    Raises:
        OperationRefused: See `admit`.
    """
    if len(text) > SMALL_TEXT and text not in _documents:
        _remember(text, await compute(_parsed, schema, text))
    return admit(schema, text, name, variables)


def _remember(text: str, document: DocumentNode) -> ValidDocument:
    valid = ValidDocument(document)
    if len(text) <= MAX_CACHED_TEXT:
        _documents[text] = valid
    return valid


def _parsed(schema: GraphQLSchema, text: str) -> DocumentNode:
    """Parse and validate. Raises OperationRefused."""
    try:
        document = parse(text, max_tokens=MAX_TOKENS, max_source_length=MAX_TEXT)
    except GraphQLError as error:
        raise OperationRefused(_with_limit_code(error)) from error
    if (message := size_problem(document)) is not None:
        raise OperationRefused(_limit_error(message))
    if errors := validate_document(schema, document, RULES):
        raise OperationRefused(*map(_with_limit_code, errors))
    return document


def reads_schema(schema: GraphQLSchema, document: DocumentNode, text: str) -> bool:
    """Return whether a document selects the fields of introspection, apart from `__typename`."""
    if _INTROSPECTION.search(text) is None:
        return False
    return bool(validate(schema, document, [NoSchemaIntrospectionCustomRule]))


def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """Return the named operation, or the only one. Raises OperationRefused."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if name is not None:
        operations = [node for node in operations if node.name is not None and node.name.value == name]
    match operations:
        case [operation]:
            return operation
        case []:
            raise OperationRefused(
                GraphQLError(
                    "The document has no operation."
                    if name is None
                    else f"The document has no operation named {name!r}."
                )
            )
    raise OperationRefused(GraphQLError(f"The document has {len(operations)} operations: choose one by operationName."))


def _check_cost(points: int) -> None:
    if points > MAX_COST:
        raise OperationRefused(
            _limit_error(
                f"The operation costs {points:,} points, over the limit of {MAX_COST:,}. It costs about one point for "
                "each object that it may return; nested lists multiply. Ask "
                "for smaller pages or for fewer nested fields.",
                cost=points,
                limit=MAX_COST,
            )
        )


def _limit_error(message: str, **extensions: int) -> GraphQLError:
    return GraphQLError(message, extensions={"code": ProblemCode.LIMIT, **extensions})


def _with_limit_code(error: GraphQLError) -> GraphQLError:
    if error.message.endswith(LIMIT_ENDINGS):
        error.extensions = {"code": ProblemCode.LIMIT}
    return error
