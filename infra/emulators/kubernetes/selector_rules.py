"""What selectors inside objects may say: LabelSelectors, and the node selectors of an affinity."""

from collections.abc import Iterator
from typing import Any

from infra.emulators.kubernetes.labels import label_errors, qualified_name_faults
from infra.emulators.kubernetes.statuses import FieldError, forbidden, invalid, required


def selector_errors(selector: dict[str, Any], where: str) -> Iterator[FieldError]:
    """Of a LabelSelector."""
    yield from label_errors(selector.get("matchLabels") or {}, f"{where}.matchLabels")
    for index, one in enumerate(selector.get("matchExpressions") or ()):
        yield from _requirement_errors(one, f"{where}.matchExpressions[{index}]", compares=False)


def node_selector_errors(selector: dict[str, Any], where: str) -> Iterator[FieldError]:
    """Of a NodeSelector."""
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        yield required(f"{where}.nodeSelectorTerms", "must have at least one node selector term")
    for index, term in enumerate(terms):
        at = f"{where}.nodeSelectorTerms[{index}]"
        for number, one in enumerate(term.get("matchExpressions") or ()):
            yield from _requirement_errors(one, f"{at}.matchExpressions[{number}]", compares=True)
        for number, one in enumerate(term.get("matchFields") or ()):
            yield from _field_errors(one, f"{at}.matchFields[{number}]")


def _requirement_errors(one: dict[str, Any], at: str, *, compares: bool) -> Iterator[FieldError]:
    operator, values = one.get("operator", ""), one.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            yield required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield forbidden(f"{at}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif compares and operator in ("Gt", "Lt"):
        if len(values) != 1:
            yield required(f"{at}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    else:
        yield invalid(f"{at}.operator", operator, "not a valid selector operator")
    for fault in qualified_name_faults(one.get("key", "")):
        yield invalid(f"{at}.key", one.get("key", ""), fault)


def _field_errors(one: dict[str, Any], at: str) -> Iterator[FieldError]:
    if one.get("operator") not in ("In", "NotIn"):
        yield invalid(f"{at}.operator", one.get("operator", ""), "not a valid selector operator")
    elif len(one.get("values") or ()) != 1:
        yield required(
            f"{at}.values", "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        )
    if one.get("key") != "metadata.name":
        yield invalid(f"{at}.key", one.get("key", ""), "not a valid field selector key")
