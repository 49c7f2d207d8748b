"""How an operation is executed, and reported when it has ended.

- executor: graphql-core's executor, with a budget and slices of the event loop for each response
- operation: the cost and the duration of one operation, and its log line
"""
