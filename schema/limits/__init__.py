"""Limits of GraphQL operations: what one operation may contain and cost, checked before it runs.

- admission: parse, limit and validate an operation, with a cache of valid documents
- size: count fields and levels of a document, fragments expanded
- cost: estimate how many objects an operation may return
- variables: limit the number of values in lists and objects of variables
"""
