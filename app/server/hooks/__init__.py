"""The addresses of webhooks and callbacks.

- `callbacks`: reads a request to `/callbacks/<token>` and writes its response.
- `routes`: reads a request to `/hooks/<token>` and writes its response.
"""
