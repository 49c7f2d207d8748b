"""Alembic's migrations of the schema, applied by `persistence.db.migrate`.

A released migration is never edited.

Modules:
    env: Alembic's entry point.
    versions: One module a revision, whose name begins with the revision's number.
"""
