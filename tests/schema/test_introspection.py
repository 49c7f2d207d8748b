"""GraphiQL and every code generator begin with this query."""

from graphql import get_introspection_query

from schema.schema import schema


async def test_the_schema_can_be_introspected_whole() -> None:
    answer = await schema.execute(get_introspection_query(input_value_deprecation=True))
    assert answer.errors is None
    assert answer.data is not None
