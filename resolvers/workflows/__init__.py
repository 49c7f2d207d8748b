"""Resolvers of workflows.

- workflows: workflows and their drafts
- exposures: the names by which other systems and agents run workflows
- statistics: statistics of ended runs
- versions: create, name, publish, archive and list versions
- differences: compare versions and drafts
- specs: check specs, normalise them for storage, and evaluate expressions
- version_cache: versions that have been checked and may run
"""
