"""The server process: an ASGI app with the GraphQL API, GraphiQL and probes.

- `asgi`: creates the app and owns the resources of the process.
- `endpoint`: the GraphQL endpoint over HTTP, Server-Sent Events and WebSocket.
- `websockets`: the graphql-transport-ws handler, with its checks and limits.
- `cross_site`: refuses requests from pages of other sites, except allowed origins; CORS.
- `exposed`: exposed workflows over plain HTTP, and their OpenAPI document.
- `hooks`: the addresses of webhooks.
- `hosts`: refuses requests to unknown hosts.
- `body_limit`: refuses large and slow request bodies, and parses large ones in turn.
- `connection_limits`: limits of open connections per caller and per address.
- `http_server`: the configuration of uvicorn, and the limits for headers and connections.
- `write_buffers`: limits what waits for clients that do not read.
- `documents`: trusted documents, which clients name by an id.
- `rate_limits`: limits the points of operations per minute, by caller and address.
- `operations`: GraphQL over HTTP, from the request to the response.
- `negotiation`: selects the media type of a response by `Accept`.
- `responses`: JSON responses of results, and of errors in the shape of GraphQL errors.
- `streams`: responses with many results, as Server-Sent Events or multipart.
- `sign_in`: makes the caller of a request from its token.
- `telemetry`: probes, metrics and request ids.
- `lifespan`: reports a failed start in one line.
"""
