"""Decides which IP addresses nodes may connect to, to prevent server-side request forgery (SSRF).

The address decides and not its name, since a name can resolve to any address.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_UNICAST = ip_network("2000::/3")
"""The global unicast addresses of IPv6 (RFC 4291); all others are special."""
_NAT64 = ip_network("64:ff9b::/96")
"""IPv4 addresses in IPv6 (RFC 6052)."""
_NOT_PUBLIC: tuple[Network, ...] = (
    ip_network("168.63.129.16/32"),  # metadata and DNS of Azure, reachable from every machine there
    ip_network("192.0.0.0/24"),  # IETF protocol assignments (RFC 6890)
    ip_network("192.88.99.0/24"),  # 6to4 relays (RFC 7526)
)


def is_public(address: Address) -> bool:
    """Return whether the address is on the public internet.

    Loopback, private networks and metadata services are not, nor are IPv6 addresses that contain
    such an IPv4 address.
    """
    if isinstance(address, IPv6Address):
        if embedded := _embedded(address):
            return is_public(embedded)
        return address in _UNICAST and address.is_global
    is_special = address.is_multicast or address.is_reserved or any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not is_special


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address to which packets for this IPv6 address are forwarded."""
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour


@dataclass(frozen=True, slots=True)
class Allowed:
    """The hosts and networks that the administrator allows in addition to the public internet."""

    hosts: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Allowed":
        """Parse a list such as `localhost, 10.1.0.0/16, *.svc.cluster.local`. Raises ValueError."""
        parts = [part.strip().lower() for part in text.split(",") if part.strip()]
        networks = [network for part in parts if (network := _network(part))]
        names = [part for part in parts if _network(part) is None]
        return cls(
            frozenset(name for name in names if not name.startswith("*.")),
            tuple(name.removeprefix("*") for name in names if name.startswith("*.")),
            tuple(networks),
        )

    def allows_host(self, name: str) -> bool:
        """Return whether the name is allowed, whatever address it has."""
        name = name.lower().rstrip(".")
        return name in self.hosts or name.endswith(self.suffixes)

    def allows_address(self, address: Address) -> bool:
        """Return whether the address is in an allowed network."""
        embedded = _embedded(address) if isinstance(address, IPv6Address) else None
        return any((embedded or address) in network for network in self.networks)

    def may_connect(self, name: str, address: Address) -> bool:
        """Return whether a node may connect to this address of this name."""
        return is_public(address) or self.allows_host(name) or self.allows_address(address)


def _network(part: str) -> Network | None:
    try:
        return ip_network(part.strip("[]"), strict=False)
    except ValueError:
        if "/" in part:
            raise ValueError(f"{part!r} is not a network like 10.0.0.0/8") from None
        return None


def parse_address(text: str) -> Address:
    """Parse an address from the resolver, without its zone."""
    return ip_address(text.partition("%")[0])
