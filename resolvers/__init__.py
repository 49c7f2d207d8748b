"""Resolvers: the logic behind the API, one function for each query, mutation and subscription.

They take and return domain objects, and never import `schema`.

Packages:

- runs: start, control, derive, read and follow runs; `testNode`
- notifications: endpoints of other systems, the deliveries to them, and alert rules
- triggers: create, change, start and follow triggers
- workflows: workflows, drafts, versions, and checks of specs

Modules:

- context: the caller and the resources of the process, passed to every resolver
- read_ahead: read updates of a subscription ahead, for the loaders
- loaders: batch the reads of one operation
- authorise: check roles in projects
- policy: what a server allows beyond roles: rates, time, subscriptions, introspection
- permissions: the role that each operation requires
- checks: validate arguments that several resolvers take
- idempotent: run a change once for each idempotency key, then publish it
- catalog: node types, tools, models, templates and trigger kinds
- global_ids: load any object by its global id
- projects, secrets, api_keys: projects, secrets and API keys
- audit_log: read the audit log
- workers: the live workers of the installation
"""
