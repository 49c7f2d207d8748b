"""The live event feed: streams of run events and pub/sub messages, for subscribers of this process.

Modules:
    feed: `Feed`, every event of a run in order from any number on.
    mailbox: A bounded queue of messages for one reader.
    pubsub: One pub/sub connection for all subscriptions of a process.
    redis_listener: The reconnect loop that the stream reader and the channel reader share.
    rest_waiter: Waits until a run is terminal, PAUSED or WAITING.
    run_changes: Status changes of the runs of a project.
    streams: One blocking XREAD for all live readers of a process.
"""
