"""The types of settings whose values are checked: addresses, lists of names, limits that may be `never`.

Each error completes the line `TREADLE_NAME=value: …` of a process that does not start.
"""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

MIN_JWT_SECRET = 32
"""Bytes of the shortest secret for HS256 (RFC 7518, section 3.2)."""
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?/?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:]*:[0-9a-f:.]+", re.IGNORECASE)


def items(text: str) -> list[str]:
    """Return the items of a list that is separated by commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _check_database_url(url: str) -> str:
    if url.split("://")[0].split("+")[0] not in ("postgresql", "postgres"):
        raise ValueError("must be a postgresql:// address")
    return url


def _check_redis_url(url: str) -> str:
    if url.split("://")[0] not in ("redis", "rediss", "unix"):
        raise ValueError("must be a redis://, rediss:// or unix:// address")
    return url


def _check_jwks_url(url: str) -> str:
    if url.split("://")[0] not in ("https", "http"):
        raise ValueError("must be an https:// address; http:// is for an issuer on a private network")
    return url


def _check_issuer_url(url: str) -> str:
    """Only an issuer on this machine may use http: whoever changes its answers signs in as anybody."""
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError("must be an https:// address; http:// is for an issuer on this machine")
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an https:// address without a query, as the issuer writes it in `iss`")
    return url


def _check_scope(scope: str) -> str:
    if "openid" not in scope.split():
        raise ValueError("must contain `openid`")
    return scope


def _check_jwt_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_JWT_SECRET:
        raise ValueError(f"must have at least {MIN_JWT_SECRET} bytes (RFC 7518): try `openssl rand -base64 32`")
    return secret


def _check_origins(origins: str) -> str:
    for origin in items(origins):
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is no origin: write scheme, host and port, such as http://localhost:5173")
        if origin.lower().removesuffix("/").endswith(_DEFAULT_PORTS[origin.lower().partition(":")[0]]):
            raise ValueError(f"{origin!r} has the default port of its scheme: leave it out, as browsers do")
    return origins


def _check_hosts(hosts: str) -> str:
    for host in items(hosts):
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no name of a host: write it without a port, such as treadle.example.com")
    return hosts


def _check_networks(networks: str) -> str:
    for network in items(networks):
        ip_network(network, strict=False)
    return networks


def _check_names_and_networks(allowed: str) -> str:
    _check_networks(",".join(item for item in items(allowed) if "/" in item))
    return allowed


def _none_if_never(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "never" else value


DatabaseUrl = Annotated[str, AfterValidator(_check_database_url)]
RedisUrl = Annotated[str, AfterValidator(_check_redis_url)]
JwksUrl = Annotated[str, AfterValidator(_check_jwks_url)]
IssuerUrl = Annotated[str, AfterValidator(_check_issuer_url)]
Scope = Annotated[str, AfterValidator(_check_scope)]
JwtSecret = Annotated[SecretStr, AfterValidator(_check_jwt_secret)]
Origins = Annotated[str, AfterValidator(_check_origins)]
HostNames = Annotated[str, AfterValidator(_check_hosts)]
Networks = Annotated[str, AfterValidator(_check_networks)]
NamesAndNetworks = Annotated[str, AfterValidator(_check_names_and_networks)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
"""A path that may begin with `~`."""
NEVER = BeforeValidator(_none_if_never)
"""Lets a setting be `never`, which is None. An empty variable is not: it selects the default."""
