"""GraphQL types, queries and mutations of projects, workflows, drafts and versions.

- project: `Project`, `Viewer`, `ServerInfo`
- workflow: `Workflow`
- draft: `WorkflowDraft`
- version: `WorkflowVersion`
- queries, mutations: root fields
"""
