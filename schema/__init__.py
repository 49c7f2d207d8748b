"""The GraphQL schema (Strawberry): types, root fields, limits of operations, and client errors.

Types read attributes off the domain objects that `resolvers` return. Packages, lowest first:

- limits: admission of operations: size, aliases, cost, variables
- execution: the executor, and the report of each operation
- workflows: projects, workflows, drafts and versions
- runs: runs, node states, events, checkpoints, waits and `testNode`
- notifications: endpoints and deliveries
- triggers: triggers, the record of their firings, and their mutations

Modules:

- enums: register the domain's enums with Strawberry
- descriptions: add the descriptions of `descriptions.toml`
- errors: turn an exception into a top-level error without internal details
- info: the typed `Info` of resolvers
- relay: `Node`, connections and pages
- scalars: `JSON`, `DateTime`, and the check of `String` and `ID`
- problem: `Problem` types, the errors of payloads
- payload: base class and decorator of mutations
- spec: reports about specs and expressions
- catalog: node types, tools, models, templates and trigger kinds
- api_key: API keys
- secret: secrets without their values
- query, mutation, subscription: the root types
- schema: the assembled schema, and `as_sdl`

`schema.graphql` is the printed schema. `treadle schema` writes it, and a test compares it.
"""
