"""The mutation `testNode`: execute one node outside any run, in the server process.

Nothing is stored.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import NotStorable
from engine.isolation import suspension
from engine.isolation.computation import compute
from engine.isolation.turns import Owner
from engine.problems import FieldProblem
from engine.runtime import single_node
from engine.runtime.run_info import RunInfo
from engine.runtime.single_node import SingleNodeRun
from engine.sdk.node import NodeConfig
from engine.types import JSON
from engine.validation.validator import check_node
from engine.values.large_values import off_loop
from engine.values.storable import check_storable
from persistence.db.ids import Prefix, new_id
from persistence.problems import Invalid, TooManyNodeTests, invalid
from resolvers.authorise import project_for
from resolvers.context import Context
from resolvers.idempotent import claim_test
from resolvers.permissions import MUTATIONS
from resolvers.secrets import check_use
from resolvers.workflows.specs import is_small

TIME_LIMIT_S = 60.0
"""The time limit of a test. In a run, the `timeoutS` of the node applies."""
SECRETS = "secrets"
MAX_OF_CALLER, MAX_OF_PROJECT, MAX_OF_SERVER = 8, 16, 32
"""Tests that one server runs at once. Each may use memory and connections for up to TIME_LIMIT_S."""


class RunningTests:
    """Counts the tests that this process runs, by caller and by project."""

    def __init__(self) -> None:
        self._running: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def counted(self, caller: str, project_id: str) -> Iterator[None]:
        """Count a test for the duration of the block. Raises TooManyNodeTests."""
        limits = {
            ("of yours", caller): MAX_OF_CALLER,
            ("of your project", project_id): MAX_OF_PROJECT,
            ("of all callers", ""): MAX_OF_SERVER,
        }
        for key, limit in limits.items():
            if self._running[key] >= limit:
                raise TooManyNodeTests(
                    f"This server runs {limit} node tests {key[0]} already, which is the limit. Each takes at most "
                    f"{TIME_LIMIT_S:g} s. Try again."
                )
        self._running.update(limits.keys())
        try:
            yield
        finally:
            self._running.subtract(limits.keys())
            self._running = +self._running


_tests = RunningTests()


@dataclass(frozen=True, slots=True)
class NodeTestArguments:
    """`values` are the names that templates may use: `{input, nodes: {id: {output}}, item, …}`."""

    project_id: str | None
    type: str
    config: JSON
    values: JSON


async def test_node(context: Context, arguments: NodeTestArguments) -> SingleNodeRun:
    """Execute one node, and return its outcome, logs and usage.

    A failure of the node is part of the result.

    Raises:
        Invalid: With all problems of config and values.
        Forbidden: The config uses secrets, and the caller has a lower role than editor.
        TooManyNodeTests: This server runs too many tests of the caller, of the project or of all.
    """
    arguments = replace(
        arguments,
        config={} if arguments.config is None else arguments.config,
        values={} if arguments.values is None else arguments.values,
    )
    async with context.read() as connection:
        project_id = await project_for(connection, context.caller, MUTATIONS["testNode"], arguments.project_id)
    await suspension.call(_check, arguments)
    run_id = new_id(Prefix.RUN)
    scope = single_node.build_scope(arguments.values, run_id)
    config, problems = await _checked(context, arguments, frozenset(scope))
    if config is None or problems:
        raise Invalid(problems)
    check_use(
        context,
        project_id,
        {"nodes": [{"id": single_node.NODE_ID, "type": arguments.type, "config": arguments.config}]},
    )
    info = RunInfo(
        run_id, project_id, 1, 0, scope["input"], context.caller.scopes_in(project_id), timeout_s=TIME_LIMIT_S
    )
    subject = context.caller.subject
    with _tests.counted(subject, project_id):
        await claim_test(context, "testNode", project_id)
        return await single_node.execute(
            context.node_types[arguments.type],
            config,
            arguments.config,
            scope,
            info,
            context.resources,
            context.node_types,
            # Together with the other work of this caller in this process, such as expressions.
            Owner(subject, run_id),
        )


async def _checked(
    context: Context, arguments: NodeTestArguments, names: frozenset[str]
) -> tuple[NodeConfig | None, list[FieldProblem]]:
    """Check the config; a large one in a thread, when it is the turn of the caller."""
    place = arguments.type, arguments.config, "input", context.node_types, names
    return check_node(*place) if is_small(arguments.config) else await compute(check_node, *place)


def _check(arguments: NodeTestArguments) -> None:
    """Check that config and values are storable objects of the expected shape. Raises Invalid."""
    for field, value in (("input.config", arguments.config), ("input.context", arguments.values)):
        if not isinstance(value, dict):
            raise invalid(field, "NOT_AN_OBJECT", "must be an object")
        try:
            off_loop(check_storable, value)
        except NotStorable as error:
            raise invalid(field + error.path, "NOT_STORABLE", str(error)) from error
    if problems := _name_problems(arguments.values):
        raise Invalid(problems)


def _name_problems(values: Mapping[str, Any]) -> list[FieldProblem]:
    if SECRETS in values:
        message = "must be omitted: a test uses the secrets of the project; setSecret adds one"
        return [FieldProblem("input.context.secrets", "FORBIDDEN", message)]
    nodes = values.get("nodes")
    if nodes is not None and not isinstance(nodes, dict):
        return [FieldProblem("input.context.nodes", "NOT_AN_OBJECT", "must be an object: `{id: {output}}`")]
    return [
        FieldProblem(f"input.context.nodes.{node_id}", "NOT_AN_OBJECT", "must be an object: `{output}`")
        for node_id, node in (nodes or {}).items()
        if not isinstance(node, dict)
    ]
