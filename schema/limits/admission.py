"""Which operations are let in. A text is parsed, limited and validated once a process: clients send the same few.

The limits come in the order of what they protect: the text before the parser, its size before validation, whose work
grows with the square of it, and its cost, which takes the variables of each call, before anything is asked of a store.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    parse,
    specified_rules,
)
from strawberry.schema.schema import validate_document

from persistence.problems import ProblemCode
from schema.limits.cost import MAX_COST, OperationCost, operation_cost
from schema.limits.size import too_large
from schema.limits.variables import too_many

MAX_TEXT = 100_000
"""Characters, and MAX_TOKENS words and signs. Specs and inputs belong into variables, which are not counted."""
MAX_TOKENS = 10_000
LIMITS = ("Parsing aborted.", "Validation aborted.", "depth exceeded")
"""How graphql-core ends what it says about its own limits."""
KEPT, KEPT_TEXT = 256, 20_000
"""Operations kept, and the characters of the longest of them."""


class OperationRefused(Exception):
    """The operation is not let in; `errors` say why."""

    def __init__(self, *errors: GraphQLError) -> None:
        super().__init__(errors[0].message)
        self.errors = list(errors)


@dataclass(slots=True)
class Known:
    """A valid document, with the weights of its operations so far."""

    document: DocumentNode
    weights: dict[str | None, OperationCost] = field(default_factory=dict)


_known: OrderedDict[str, Known] = OrderedDict()
"""Valid ones only: a text with a mistake is explained each time."""


def admitted(schema: GraphQLSchema, text: str, name: str | None, variables: Mapping[str, Any]) -> DocumentNode:
    """The document. Raises Refused, with the limit or with everything that is wrong."""
    known = _known.get(text)
    if known is None:
        known = Known(_valid(schema, text))
        if len(text) <= KEPT_TEXT:
            _known[text] = known
    else:
        _known.move_to_end(text)
    if len(_known) > KEPT:
        _known.popitem(last=False)
    operation = _chosen(known.document, name)
    if (message := too_many(schema, operation, variables)) is not None:
        raise OperationRefused(_limit(message))
    if name not in known.weights:
        known.weights[name] = operation_cost(schema, known.document, operation)
    _check_cost(known.weights[name].cost(variables))
    return known.document


def _valid(schema: GraphQLSchema, text: str) -> DocumentNode:
    try:
        document = parse(text, max_tokens=MAX_TOKENS, max_source_length=MAX_TEXT)
    except GraphQLError as error:
        raise OperationRefused(_coded(error)) from error
    if (message := too_large(document)) is not None:
        raise OperationRefused(_limit(message))
    if errors := validate_document(schema, document, tuple(specified_rules)):
        raise OperationRefused(*map(_coded, errors))
    return document


def _chosen(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """The operation meant: the named one, or the only one."""
    operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    if name is not None:
        operations = [one for one in operations if one.name is not None and one.name.value == name]
    match operations:
        case [operation]:
            return operation
        case []:
            raise OperationRefused(
                GraphQLError("There is no operation." if name is None else f"There is no operation named {name!r}.")
            )
    raise OperationRefused(
        GraphQLError(f"There are {len(operations)} operations: say by operationName which one is meant.")
    )


def _check_cost(cost: int) -> None:
    if cost > MAX_COST:
        raise OperationRefused(
            _limit(
                f"The operation costs {cost:,} points, over the limit of {MAX_COST:,}: about one for each object that its "
                "answer may hold, lists inside lists multiplied. Ask for smaller pages, or for less inside of them.",
                cost=cost,
                limit=MAX_COST,
            )
        )


def _limit(message: str, **more: int) -> GraphQLError:
    return GraphQLError(message, extensions={"code": ProblemCode.LIMIT, **more})


def _coded(error: GraphQLError) -> GraphQLError:
    if error.message.endswith(LIMITS):
        error.extensions = {"code": ProblemCode.LIMIT}
    return error
