"""The journal: commits what the runs of a worker did, in groups, and publishes it after the commit.

Modules:
    buffer: `JournalBuffer`, the entries that are not committed yet.
    group_commit: The SQL statement of a group and its arguments.
    journal: `PostgresJournal`, which workers use.
    post_commit: `PostCommit`, publishes committed events and streamed text in order.
    progress_notices: `ProgressNotices`, tells the readers of a project which runs have new progress.
"""
