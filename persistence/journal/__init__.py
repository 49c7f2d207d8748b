"""The journal: commits what the runs of a worker did, in groups, and publishes it after the commit.

Modules:
    buffer: `JournalBuffer`, the entries that are not committed yet.
    group_commit: The arguments of the statement of a group.
    group_statement: The SQL statement of a group, and the columns of its arguments.
    journal: `PostgresJournal`, which workers use.
    post_commit: `PostCommit`, publishes committed events and streamed text in order.
    progress_notices: `ProgressNotices`, tells the readers of a project which runs have new progress.
"""
