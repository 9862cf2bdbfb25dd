"""Which addresses a session may reach through the host: the world and the local network, never the host itself.

Refused: loopback, link-local (cloud metadata servers live there), unspecified, multicast and broadcast, every address
of this host's own interfaces, and each of these dressed as IPv6 (mapped, translated, 6to4). Private networks are
allowed, as package mirrors and proxies of companies are there; whoever minds closes the session's network.
"""

import ipaddress

from infra.sandbox import netlink
from infra.sandbox.netlink import Address

CLOSED_NETWORKS = (  # for the kinds of egress where routes decide; own addresses are added to them
    ipaddress.IPv4Network("0.0.0.0/8"),
    ipaddress.IPv4Network("169.254.0.0/16"),
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def refused(address: Address) -> str | None:
    """Why a session may not reach `address`, or None."""
    inner = _embedded(address)
    if inner is not None:
        return refused(inner)
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_unspecified or (address.version == 4 and address in CLOSED_NETWORKS[0]):
        return "unspecified"
    if address.is_multicast or address == _BROADCAST:
        return "multicast"
    try:
        own = netlink.is_own(address)
    except OSError:
        return "unknown to the kernel"
    return "this host's own" if own else None


def closed_networks() -> list[str]:
    """The IPv4 networks that routes must close: those refused anyhow, and this host's addresses as of now."""
    own = {ipaddress.IPv4Network(a) for a in netlink.host_addresses() if a.version == 4 and not a.is_loopback}
    return [str(network) for network in (*CLOSED_NETWORKS, *sorted(own))]


def free_network(candidates: tuple[str, ...]) -> ipaddress.IPv4Network:
    """The first candidate that holds none of this host's addresses: a session's network must not shadow them."""
    own = [a for a in netlink.host_addresses() if a.version == 4]
    networks = [ipaddress.IPv4Network(c) for c in candidates]
    return next((n for n in networks if not any(a in n for a in own)), networks[0])


def _embedded(address: Address) -> Address | None:
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):  # ::a.b.c.d, deprecated by RFC 4291
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
