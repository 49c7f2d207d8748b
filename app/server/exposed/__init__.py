"""Exposed workflows over plain HTTP: `POST /run/<name>`, and their OpenAPI document.

- `guard`: signs callers in, takes the price of a request, and turns errors into responses.
- `runs`: starts, reads and cancels runs.
- `openapi`: the OpenAPI document of the workflows that a caller may run.
"""
