"""`testNode`: one node is run by itself in this process, with values a builder gives it. Nothing of it is stored."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import NotStorable
from engine.problems import FieldProblem
from engine.runtime import single_node
from engine.runtime.run_info import RunInfo
from engine.runtime.single_node import SingleNodeRun
from engine.types import JSON
from engine.validation.validator import check_node
from engine.values.storable import check_storable
from persistence.caller import Role
from persistence.db.ids import Prefix, new_id
from persistence.problems import Invalid, TooManyNodeTests, invalid
from resolvers.authorise import project_for
from resolvers.context import Context
from resolvers.secrets import check_use

TIME_LIMIT_S = 60.0
"""How long a builder waits for one node; a run gives it whatever its spec says."""
SECRETS = "secrets"
AT_ONCE = 8
"""Nodes that one server tries at once: each may hold a sandbox, connections and a minute of them."""
_places = asyncio.Semaphore(AT_ONCE)


@dataclass(frozen=True, slots=True)
class NodeTestArguments:
    """`given` are the names that templates may use: `{input, nodes: {id: {output}}, item, …}`."""

    project_id: str | None
    type: str
    config: JSON
    given: JSON


async def test_node(context: Context, ask: NodeTestArguments) -> SingleNodeRun:
    """Raises Invalid with every problem of the config, and TooManyNodeTests; whatever goes wrong then is the trial's error."""
    ask = replace(ask, config={} if ask.config is None else ask.config, given={} if ask.given is None else ask.given)
    async with context.database.connect() as connection:
        project_id = await project_for(connection, context.caller, Role.RUNNER, ask.project_id)
    _check(ask)
    run_id = new_id(Prefix.RUN)
    scope = single_node.build_scope(ask.given, run_id)
    config, problems = check_node(ask.type, ask.config, "input", context.node_types, frozenset(scope))
    if config is None or problems:
        raise Invalid(problems)
    check_use(context, project_id, {"nodes": [{"id": single_node.NODE_ID, "type": ask.type, "config": ask.config}]})
    info = RunInfo(run_id, project_id, 1, 0, scope["input"], context.caller.scopes, timeout_s=TIME_LIMIT_S)
    if _places.locked():
        raise TooManyNodeTests(
            f"{AT_ONCE} nodes are being tried here; a trial takes at most {TIME_LIMIT_S:g} s: try again."
        )
    async with _places:
        return await single_node.execute(
            context.node_types[ask.type], config, ask.config, scope, info, context.resources, context.node_types
        )


def _check(ask: NodeTestArguments) -> None:
    """Raises Invalid where config or context are not what they have to be."""
    for field, value in (("input.config", ask.config), ("input.context", ask.given)):
        if not isinstance(value, dict):
            raise invalid(field, "NOT_AN_OBJECT", "must be an object")
        try:
            check_storable(value)
        except NotStorable as wrong:
            raise invalid(field + wrong.path, "NOT_STORABLE", str(wrong)) from wrong
    if problems := [*_wrong_names(ask.given)]:
        raise Invalid(problems)


def _wrong_names(given: Mapping[str, Any]) -> list[FieldProblem]:
    if SECRETS in given:
        told = "the project's own secrets are used: setSecret adds one"
        return [FieldProblem("input.context.secrets", "FORBIDDEN", told)]
    nodes = given.get("nodes")
    if nodes is not None and not isinstance(nodes, dict):
        return [FieldProblem("input.context.nodes", "NOT_AN_OBJECT", "must be an object: `{id: {output}}`")]
    return [
        FieldProblem(f"input.context.nodes.{node_id}", "NOT_AN_OBJECT", "must be an object: `{output}`")
        for node_id, node in (nodes or {}).items()
        if not isinstance(node, dict)
    ]
