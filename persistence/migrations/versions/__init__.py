"""The revisions of the schema, one module each, applied in the order of their numbers."""
