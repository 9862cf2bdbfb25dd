"""What a NetworkPolicy may say: ports, peers, networks."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from infra.emulators.kubernetes.container_rules import PORT_RULE, PROTOCOLS, port_name_faults
from infra.emulators.kubernetes.objects import Object
from infra.emulators.kubernetes.selector_rules import selector_errors
from infra.emulators.kubernetes.statuses import FieldError, forbidden, invalid, required, unsupported

_CIDR_RULE = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def policy_errors(obj: Object) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    yield from selector_errors(spec.get("podSelector") or {}, "spec.podSelector")
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            at = f"spec.{direction}[{index}]"
            for number, port in enumerate(rule.get("ports") or ()):
                yield from _policy_port_errors(port, f"{at}.ports[{number}]")
            for number, peer in enumerate(rule.get(side) or ()):
                yield from _peer_errors(peer, f"{at}.{side}[{number}]")
    types = spec.get("policyTypes") or []
    for index, kind in enumerate(types):
        if kind not in ("Ingress", "Egress"):
            yield unsupported(f"spec.policyTypes[{index}]", kind, ("Ingress", "Egress"))


def _policy_port_errors(port: dict[str, Any], at: str) -> Iterator[FieldError]:
    if port.get("protocol") not in PROTOCOLS:
        yield unsupported(f"{at}.protocol", port.get("protocol"), PROTOCOLS)
    number, end = port.get("port"), port.get("endPort")
    if isinstance(number, int) and not 1 <= number <= 65535:
        yield invalid(f"{at}.port", number, PORT_RULE)
    elif isinstance(number, str):
        for fault in port_name_faults(number):
            yield invalid(f"{at}.port", number, fault)
    if end is None:
        return
    if number is None:
        yield required(f"{at}.port", "must be specified when `endPort` is specified")
    elif isinstance(number, str):
        yield invalid(f"{at}.endPort", end, "may not be specified when `port` is non-numeric")
    elif end < number:
        yield invalid(f"{at}.endPort", end, "must be greater than or equal to `port`")
    elif end > 65535:
        yield invalid(f"{at}.endPort", end, PORT_RULE)


def _peer_errors(peer: dict[str, Any], at: str) -> Iterator[FieldError]:
    selectors = [field for field in ("podSelector", "namespaceSelector") if field in peer]
    for field in selectors:
        yield from selector_errors(peer[field] or {}, f"{at}.{field}")
    block = peer.get("ipBlock")
    if block is None:
        if not selectors:
            yield required(at, "must specify a peer")
        return
    if selectors:
        yield forbidden(at, "may not specify both ipBlock and another peer")
    cidr = block.get("cidr", "")
    if not cidr:
        yield required(f"{at}.ipBlock.cidr")
        return
    whole = network(cidr)
    if whole is None:
        yield invalid(f"{at}.ipBlock.cidr", cidr, _CIDR_RULE)
        return
    for index, text in enumerate(block.get("except") or ()):
        part, where = network(text), f"{at}.ipBlock.except[{index}]"
        if part is None:
            yield invalid(where, text, _CIDR_RULE)
        elif part.version != whole.version or not part.subnet_of(whole) or part == whole:  # type: ignore[arg-type]
            yield invalid(where, text, "must be a strict subset of `cidr`")


def network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """None: it is none. Host bits may be set, as Go's parser has it."""
    if "/" not in cidr or not re.fullmatch(r"[0-9a-fA-F:.]+/\d{1,3}", cidr):
        return None
    try:
        return ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        return None
