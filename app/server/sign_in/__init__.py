"""Sign-in: turns the token of a request or WebSocket into its `Caller`.

- `auth`: `Auth`, with sign-in (`TokenAuth`) and without (`LocalAuth`); the only place that makes callers.
- `tokens`: checks of JSON Web Tokens.
- `jwks`: the public keys of the issuer, cached.
- `revocations`: notices API keys that are revoked.
- `challenge`: 401 responses with WWW-Authenticate.
- `sessions`: ends sockets and streams when their token ends.
- `oidc`: the client of an OpenID Connect issuer, for browsers.
- `cookies`: the cookies of browser sign-in.
- `browser_sessions`: the sessions of signed-in browsers, and their renewal.
- `routes`: the addresses under `/auth`, for pages and browsers.
"""
