"""The server process: an ASGI app with the GraphQL API, GraphiQL and /health.

- `asgi`: creates the app and owns the resources of the process.
- `endpoint`: the GraphQL endpoint over HTTP, Server-Sent Events and WebSocket.
- `websockets`: the graphql-transport-ws handler, with its checks and limits.
- `auth`: identifies the caller of a request.
- `cross_site`: refuses requests from pages of other sites.
- `body_limit`: refuses large request bodies.
- `error_responses`: error responses in the shape of GraphQL errors.
- `lifespan`: reports a failed start in one line.
"""
