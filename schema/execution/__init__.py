"""How an operation is executed, and reported when it has ended.

- executor: graphql-core's executor, with the collected root fields of a subscription cached
- operation: the cost and the duration of one operation, and its log line
"""
