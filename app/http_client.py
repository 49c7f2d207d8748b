"""An httpx client for plain `http://` addresses on this machine, without proxies and TLS.

By default httpx loads all CA certificates for each client, which takes about 20 ms.
"""

import ssl

import httpx

_NO_TRUSTED_CAS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def plain_client(*, timeout_s: float, base_url: str = "") -> httpx.AsyncClient:
    """Create a client without CA certificates. A request to an `https://` address fails."""
    return httpx.AsyncClient(trust_env=False, timeout=timeout_s, base_url=base_url, verify=_NO_TRUSTED_CAS)
