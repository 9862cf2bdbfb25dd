"""Objects as the JSON API lists them: cloud.google.com/storage/docs/json_api/v1/objects/list. Pure."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from infra.emulators.buckets.folder import Object

LARGEST_PAGE = 1000
# Parameters whose absence from the answer would be a wrong answer.
UNKNOWN = ("matchGlob", "softDeleted", "filter")
_FIELDS = {
    "contentType": "ContentType",
    "cacheControl": "CacheControl",
    "contentDisposition": "ContentDisposition",
    "contentEncoding": "ContentEncoding",
    "contentLanguage": "ContentLanguage",
    "crc32c": "Crc32c",
    "md5Hash": "Md5Hash",
    "etag": "Etag",
    "metadata": "Metadata",
    "timeCreated": "Created",
    "updated": "Updated",
}


class BadListing(Exception):
    """A parameter cannot be used; the message says which."""


def page(bucket: str, objects: Iterable[Object], query: Mapping[str, str], base_url: str) -> dict[str, Any]:
    """One page of `objects`, which are sorted and begin with the query's prefix. Raises BadListing."""
    for name in UNKNOWN:
        if name in query:
            raise BadListing(f"{name}: this emulator lists by prefix, delimiter, startOffset and endOffset")
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after, size = _after(query.get("pageToken", "")), _size(query.get("maxResults", ""))
    start, end = query.get("startOffset", ""), query.get("endOffset", "")
    trailing = query.get("includeTrailingDelimiter") == "true"
    items: list[dict[str, Any]] = []
    prefixes: list[str] = []
    last = ""
    more = False
    for one in objects:
        name = one.name
        if name.encode() < start.encode() or (end and name.encode() >= end.encode()):
            continue
        head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
        folder = f"{prefix}{head}{delimiter}" if found else ""
        shown = folder or name
        if shown.encode() <= after.encode() or (folder and folder in prefixes):
            continue
        if len(items) + len(prefixes) == size:
            more = True
            break
        if folder:
            prefixes.append(folder)
        if not folder or (trailing and name == folder):
            items.append(resource(bucket, one, base_url))
        last = shown
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if items:
        answer["items"] = items
    if prefixes:
        answer["prefixes"] = prefixes
    if more:
        answer["nextPageToken"] = base64.urlsafe_b64encode(last.encode()).decode()
    return answer


def resource(bucket: str, one: Object, base_url: str) -> dict[str, Any]:
    """An object's metadata; without check sums where a session wrote the content and nobody has read it since."""
    updated = one.updated.isoformat().replace("+00:00", "Z")
    path = f"b/{bucket}/o/{quote(one.name, safe='')}"
    stored = {key: one.described[name] for key, name in _FIELDS.items() if one.described.get(name)}
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{one.name}/{one.generation}",
        "name": one.name,
        "bucket": bucket,
        "size": str(one.size_bytes),
        "generation": str(one.generation),
        "metageneration": "1",
        "storageClass": "STANDARD",
        "timeCreated": updated,
        "updated": updated,
        "selfLink": f"{base_url}/storage/v1/{path}",
        "mediaLink": f"{base_url}/download/storage/v1/{path}?alt=media",
        **stored,
    }


def _after(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError) as exc:
        raise BadListing(f"pageToken: got '{token}', wanted the nextPageToken of an earlier answer") from exc


def _size(text: str) -> int:
    if text and (not text.isascii() or not text.isdigit() or int(text) < 1):
        raise BadListing(f"maxResults: got '{text}', wanted a whole number from 1")
    return min(int(text or LARGEST_PAGE), LARGEST_PAGE)
