"""The API for authors of node types and tools: the only package that other projects import."""
