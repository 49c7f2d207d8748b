"""The workflow spec: its data model, its parser and its identity.

Modules:
    callbacks: Finds the node whose callback address a template means.
    desugar: Replaces the shorthand of single node types by the plain form.
    diff: Compares two specs by node, field and edge.
    identity: Computes the hash of a spec and the ids of its edges.
    model: The data model, as frozen values.
    parser: Parses the JSON of an author to the data model.
    raw: The pydantic models of that JSON.
    template_fields: Finds the templates in a node's config.
"""
