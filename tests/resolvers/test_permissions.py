"""Every operation of the schema names the role that it needs, and there is no other place for roles."""

import re

from graphql import GraphQLObjectType

from persistence.caller import SCOPES, Caller, Role
from resolvers.permissions import MUTATIONS, QUERIES, SUBSCRIPTIONS
from schema.schema import schema
from tests.paths import ROOT


def fields(root: str) -> set[str]:
    kind = schema._schema.get_type(root)
    assert isinstance(kind, GraphQLObjectType)
    return set(kind.fields)


def test_every_operation_names_its_role() -> None:
    assert set(QUERIES) == fields("Query")
    assert set(MUTATIONS) == fields("Mutation")
    assert set(SUBSCRIPTIONS) == fields("Subscription")


def test_no_other_module_of_the_api_names_a_role() -> None:
    modules = [*(ROOT / "resolvers").rglob("*.py"), *(ROOT / "schema").rglob("*.py")]
    named = {path.name for path in modules if re.search(r"\bRole\.[A-Z]+", path.read_text("utf-8"))}
    assert named == {"permissions.py", "projects.py"}  # The creator of a project becomes its admin.


def test_scopes_follow_from_the_role_in_the_project() -> None:
    caller = Caller("tester", {"a": Role.ADMIN, "b": Role.VIEWER})
    assert {project: caller.scopes_in(project) for project in "abc"} == {
        "a": SCOPES[Role.ADMIN],
        "b": {"read"},
        "c": set(),
    }
    assert caller.all_scopes == SCOPES[Role.ADMIN]
    for lower, higher in zip(list(Role)[:-1], list(Role)[1:], strict=True):
        assert SCOPES[lower] < SCOPES[higher]
