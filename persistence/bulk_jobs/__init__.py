"""Bulk jobs: cancel, retry or delete many runs, batch by batch, whatever process dies.

Modules:
    deletion: Deletes a run that has ended.
    job: `BulkJob`, its creation, claim and progress.
"""
