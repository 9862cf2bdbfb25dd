"""Kubernetes quantities, as Cloud Run's cpu and memory limits are written: 500m, 1, 512Mi, 2G, 1e3."""

import re
from decimal import Decimal

# kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity
_QUANTITY = re.compile(r"\+?(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<suffix>[eE][+-]?\d{1,2}|[a-zA-Z]*)")
_SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
}
_LONGEST = 32  # characters; no sensible quantity is longer, and Decimal is slow on what is


def parse_quantity(text: str) -> Decimal:
    """Cores or bytes. Raises ValueError: not a quantity."""
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(f"{text[:_LONGEST]!r} is not a quantity such as 500m, 2 or 512Mi")
    suffix = match["suffix"]
    if suffix[:1] in {"e", "E"} and len(suffix) > 1:
        return Decimal(match["number"] + suffix)
    if suffix not in _SUFFIXES:
        raise ValueError(f"{text!r} has the unknown unit {suffix!r}")
    return Decimal(match["number"]) * _SUFFIXES[suffix]
