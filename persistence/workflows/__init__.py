"""Projects, workflows, their drafts and their versions, as rows.

Modules:
    api_keys: API keys, each with a role in a project.
    browser_sessions: Sign-in sessions of browsers.
    drafts: The one editable spec of a workflow.
    exposures: The names by which other systems and agents run workflows.
    projects: Projects, to which every other row belongs.
    versions: Immutable snapshots of specs.
    workflows: Workflows, created and deleted together with their data.
"""
