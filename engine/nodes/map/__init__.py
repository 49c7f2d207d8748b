"""The node type `map`: runs a node, or a small spec, over each item of a list.

Modules:
    node: the config and the node type.
    item_runner: runs one item, as a node or as a spec in memory.
    pool: runs the items with limited concurrency and makes finished items durable.
"""
