"""This host's addresses and routes as the kernel knows them, over rtnetlink (man 7 rtnetlink).

Run as a program, `netlink.py USER_FD NET_FD NETWORK…`, it closes IPv4 networks inside the network namespace NET_FD,
which belongs to the user namespace USER_FD. What runs in there has no CAP_NET_ADMIN and cannot open them again.
"""

import ctypes
import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_GETADDR, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_GETROUTE = 22, 20, 24, 26
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP, _NLM_F_CREATE, _NLM_F_REPLACE = 1, 4, 0x300, 0x400, 0x100
_IFA_ADDRESS, _IFA_LOCAL, _RTA_DST = 1, 2, 1
_RTN_LOCAL, _RTN_BROADCAST, _RTN_ANYCAST, _RTN_MULTICAST, _RTN_PROHIBIT = 2, 3, 4, 5, 8
_RT_TABLE_MAIN, _RTPROT_STATIC = 254, 4
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_HEADER = struct.Struct("=IHHII")
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES)
_TIMEOUT_S = 2  # the kernel answers at once; a socket that does not is broken


def host_addresses() -> set[Address]:
    """Every address of every interface, loopback included."""
    found: set[Address] = set()
    for kind, body in _ask(_RTM_GETADDR, _NLM_F_DUMP, struct.pack("=BBBBI", socket.AF_UNSPEC, 0, 0, 0, 0)):
        if kind == _RTM_NEWADDR:
            attributes = dict(_attributes(body[8:]))
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if packed:
                found.add(ipaddress.ip_address(packed))
    return found


def is_own(address: Address) -> bool:
    """Whether a packet to `address` would stay on this host, by the kernel's own routing at this moment.

    An address without a route is not ours. Raises OSError: the kernel did not say.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    packed = address.packed
    request = struct.pack("=BBBBBBBBI", family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_DST, packed)
    try:
        answers = list(_ask(_RTM_GETROUTE, 0, request))
    except OSError as exc:
        if exc.errno in _NO_ROUTE:
            return False
        raise
    own = (_RTN_LOCAL, _RTN_BROADCAST, _RTN_ANYCAST, _RTN_MULTICAST)
    return any(kind == _RTM_NEWROUTE and body[7] in own for kind, body in answers)


def prohibit(network: ipaddress.IPv4Network) -> None:
    """Refuse packets to `network` in this network namespace; doing it again is not an error."""
    route = struct.pack(
        "=BBBBBBBBI",
        socket.AF_INET, network.prefixlen, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, 0, _RTN_PROHIBIT, 0,
    )  # fmt: skip
    flags = _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_REPLACE
    list(_ask(_RTM_NEWROUTE, flags, route + _attribute(_RTA_DST, network.network_address.packed)))


def _ask(kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Send one request and yield the (kind, body) of its answers; an error answer raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.settimeout(_TIMEOUT_S)
        link.bind((0, 0))
        link.send(_HEADER.pack(_HEADER.size + len(body), kind, flags | _NLM_F_REQUEST, 1, 0) + body)
        while True:
            data = link.recv(1 << 16)
            while len(data) >= _HEADER.size:
                size, answer, _, _, _ = _HEADER.unpack_from(data)
                part, data = data[_HEADER.size : size], data[(size + 3) & ~3 :]
                if answer == _NLMSG_DONE:
                    return
                if answer == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", part)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return
                yield answer, part
            if not flags & (_NLM_F_DUMP | _NLM_F_ACK):
                return


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:size]
        data = data[(size + 3) & ~3 :]


def main(arguments: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for fd, kind in zip(map(int, arguments[:2]), (_CLONE_NEWUSER, _CLONE_NEWNET), strict=True):
        if libc.setns(fd, kind) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns {kind:#x}: {os.strerror(number)}")
    for network in arguments[2:]:
        prohibit(ipaddress.IPv4Network(network))


if __name__ == "__main__":
    main(sys.argv[1:])
