"""Quantities as the API has them: 500m, 2, 1.5Gi, 1e3, -1."""

import re
from decimal import Decimal
from typing import Final

# kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+))(?P<unit>[eE][+-]?\d{1,3}|[numkMGTPE]|[KMGTPE]i|)", re.ASCII
)
_LONGEST: Final = 64
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def is_quantity(text: str) -> bool:
    return len(text) <= _LONGEST and _QUANTITY.fullmatch(text) is not None


def quantity(text: str) -> Decimal:
    """Raises ValueError."""
    match = _QUANTITY.fullmatch(text)
    if match is None or len(text) > _LONGEST:
        raise ValueError(f"{text[:_LONGEST]!r} is not a quantity such as 500m, 2 or 512Mi")
    unit = match["unit"]
    if unit in _BINARY:
        return Decimal(match["number"]) * Decimal(1024) ** _BINARY[unit]
    if unit in _DECIMAL:
        return Decimal(match["number"]).scaleb(_DECIMAL[unit])
    return Decimal(match["number"] + unit)


def written(value: Decimal) -> str:
    """The shortest decimal form: 500m, 2, 1500."""
    for unit, scale in (("", 0), ("m", 3), ("u", 6)):
        scaled = value.scaleb(scale)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{unit}"
    return f"{int(value.scaleb(9).to_integral_value())}n"


def written_like(value: Decimal, model: str) -> str:
    """As `written`, in binary units where `model` has one: sums of Mi stay Mi."""
    unit = next((unit for unit in _BINARY if model.endswith(unit)), "")
    if not unit or value != value.to_integral_value():
        return written(value)
    for larger in reversed(_BINARY):
        if value and value % 1024 ** _BINARY[larger] == 0:
            return f"{int(value / 1024 ** _BINARY[larger])}{larger}"
    return written(value)
