"""The addresses of webhooks.

- `routes`: reads a request to `/hooks/<token>` and writes its response.
"""
