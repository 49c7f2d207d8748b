"""The introspection query, which GraphiQL and every code generator send first."""

from graphql import get_introspection_query

from schema.schema import schema


async def test_the_whole_schema_can_be_introspected() -> None:
    answer = await schema.execute(get_introspection_query(input_value_deprecation=True))
    assert answer.errors is None
    assert answer.data is not None
