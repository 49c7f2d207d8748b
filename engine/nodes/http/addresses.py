"""Which addresses may be connected to. Decided by the address itself and not by its name: a name can point anywhere."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_UNICAST = ip_network("2000::/3")
"""All that is routed of IPv6; what lies outside is a special case of some kind."""
_NAT64 = ip_network("64:ff9b::/96")
_NOT_PUBLIC: tuple[Network, ...] = (
    ip_network("168.63.129.16/32"),  # Azure's metadata and DNS: a public number that every machine there has inside
    ip_network("192.0.0.0/24"),
    ip_network("192.88.99.0/24"),
)


def is_public(address: Address) -> bool:
    """Whether it is one of the public internet: no loopback, no private network, no metadata service, and no detour to one."""
    if isinstance(address, IPv6Address):
        if inner := _inner(address):
            return is_public(inner)
        return address in _UNICAST and address.is_global
    is_special = address.is_multicast or address.is_reserved or any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not is_special


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets for this one end up at."""
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the host opens beyond the public internet: names, as authors write them, and networks."""

    hosts: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Allowed":
        """`localhost, 10.1.0.0/16, *.svc.cluster.local`. Raises ValueError."""
        parts = [part.strip().lower() for part in text.split(",") if part.strip()]
        networks = [network for part in parts if (network := _network(part))]
        names = [part for part in parts if _network(part) is None]
        return cls(
            frozenset(name for name in names if not name.startswith("*.")),
            tuple(name.removeprefix("*") for name in names if name.startswith("*.")),
            tuple(networks),
        )

    def host(self, name: str) -> bool:
        name = name.lower().rstrip(".")
        return name in self.hosts or name.endswith(self.suffixes)

    def address(self, address: Address) -> bool:
        inner = _inner(address) if isinstance(address, IPv6Address) else None
        return any((inner or address) in network for network in self.networks)

    def may_connect(self, name: str, address: Address) -> bool:
        return is_public(address) or self.host(name) or self.address(address)


def _network(part: str) -> Network | None:
    try:
        return ip_network(part.strip("[]"), strict=False)
    except ValueError:
        if "/" in part:
            raise ValueError(f"{part!r} is no network like 10.0.0.0/8") from None
        return None


def parse_address(text: str) -> Address:
    """An address as the resolver gives it, its zone left out."""
    return ip_address(text.partition("%")[0])
