"""An httpx client for http:// alone, with nothing between: httpx would read all CA certificates for each client, some 20 ms."""

import ssl

import httpx

_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def plain_client(*, timeout_s: float, base_url: str = "") -> httpx.AsyncClient:
    """Where https:// is asked all the same, no certificate is good enough."""
    return httpx.AsyncClient(trust_env=False, timeout=timeout_s, base_url=base_url, verify=_TRUSTS_NOBODY)
