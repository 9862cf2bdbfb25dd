"""Lists: a consistent state, selected and cut into pages."""

import base64
import binascii
import json
from typing import Any

from infra.emulators.kubernetes.history import not_in_future, parse_revision
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.requests import Request
from infra.emulators.kubernetes.selectors import Selects, field_selector, label_selector
from infra.emulators.kubernetes.statuses import BadRequest, Gone, Invalid, forbidden, unsupported

_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
_OPTIONS = Kind("meta.k8s.io", "v1", "listoptions", "ListOptions")


def selector(kind: Kind, query: dict[str, str]) -> Selects:
    """Raises BadRequest."""
    by_label = label_selector(query.get("labelSelector", ""))
    by_field = field_selector(kind, query.get("fieldSelector", ""))
    return lambda obj: by_label(obj) and by_field(obj)


def listed(objects: Objects, kind: Kind, namespace: str, request: Request) -> dict[str, Any]:
    """The List, its items without their own apiVersion and kind, as the real server sends them.

    Raises BadRequest, Gone, Timeout, Invalid.
    """
    query = request.query
    selects = selector(kind, query)
    limit = request.seconds("limit") or 0
    token, version = query.get("continue", ""), query.get("resourceVersion", "")
    after: tuple[str, str] | None = None
    match = query.get("resourceVersionMatch", "")
    _check_match(match, version, token)
    if token:
        revision, after = _opened(token)
        items = _state(objects, kind, namespace, revision, _EXPIRED)
    else:
        revision = int(objects.resource_version)
        wanted = parse_revision(version) if version else 0
        not_in_future(wanted, revision)
        if match == "Exact" or (limit and wanted and match != "NotOlderThan"):
            revision = wanted
        items = _state(objects, kind, namespace, revision)
    found = [obj for obj in items if (after is None or _place(obj) > after) and selects(obj)]
    metadata: dict[str, Any] = {"resourceVersion": str(revision)}
    if 0 < limit < len(found):
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(found) - limit
        found = found[:limit]
        metadata["continue"] = _sealed(revision, _place(found[-1]))
    return {
        "kind": f"{kind.kind}List",
        "apiVersion": kind.api_version,
        "metadata": metadata,
        "items": found,
    }


def _check_match(match: str, version: str, token: str) -> None:
    if not match:
        return
    if match not in ("Exact", "NotOlderThan"):
        supported = ("Exact", "NotOlderThan", "")
        raise Invalid(_OPTIONS, "", [unsupported("resourceVersionMatch", match, supported)])
    if token:
        why = "resourceVersionMatch is forbidden when continue is provided"
    elif not version:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match == "Exact" and version == "0":
        why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    else:
        return
    raise Invalid(_OPTIONS, "", [forbidden("resourceVersionMatch", why)])


def _state(
    objects: Objects, kind: Kind, namespace: str, revision: int, expired: str | None = None
) -> list[dict[str, Any]]:
    try:
        return objects.at(kind, namespace, revision)
    except Gone as exc:
        raise Gone(expired or exc.message) from None


def _place(obj: dict[str, Any]) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _sealed(revision: int, place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(
        json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "after": place}).encode()
    ).decode()


def _opened(token: str) -> tuple[int, tuple[str, str]]:
    try:
        said = json.loads(base64.urlsafe_b64decode(token))
        namespace, name = said["after"]
        return int(said["rv"]), (str(namespace), str(name))
    except (binascii.Error, ValueError, TypeError, KeyError):
        raise BadRequest("continue key is not valid: encoded in an unknown format") from None
