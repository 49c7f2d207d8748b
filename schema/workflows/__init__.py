"""GraphQL types, queries and mutations of projects, workflows, drafts and versions.

- audit_log: `AuditEntry`, and the query `auditLog`
- project: `Project`, `Viewer`, `ServerInfo`
- workflow: `Workflow`
- exposure: `Expose`
- draft: `WorkflowDraft`
- statistics: `RunStats`
- version: `WorkflowVersion`
- differences: `SpecDiff`, and its root field
- queries, mutations: root fields
"""
