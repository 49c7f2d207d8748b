"""Sign-in: turns the token of a request or WebSocket into its `Caller`.

- `auth`: `Auth`, with sign-in (`TokenAuth`) and without (`LocalAuth`); the only place that makes callers.
- `tokens`: checks of JSON Web Tokens.
- `jwks`: the public keys of the issuer, cached.
- `revocations`: notices API keys that are revoked.
- `challenge`: 401 responses with WWW-Authenticate.
- `sessions`: ends sockets and streams when their token ends.
"""
