"""One HTTP request to the API server: what its path names, what it carries, which form of answer it accepts."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import yaml
from starlette.types import Receive, Scope

from infra.emulators.kubernetes.protobuf import PROTOBUF, decoded
from infra.emulators.kubernetes.statuses import BadRequest, NotAcceptable, TooLarge, UnsupportedMediaType

LARGEST_BODY_BYTES: Final = 3 * 2**20  # the real server's
JSON: Final = "application/json"
YAML: Final = "application/yaml"
_OFFERED: Final = (JSON, YAML)
_META = "meta.k8s.io"


@dataclass(frozen=True, slots=True)
class Target:
    """/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME/SUBRESOURCE/REST; what is absent is ""."""

    group: str
    version: str
    namespace: str
    plural: str
    name: str
    subresource: str
    rest: str


def target(path: str) -> Target | None:
    """None: no path of a resource."""
    parts = path.removeprefix("/").split("/")
    if parts[:2] == ["api", "v1"]:
        group, version, parts = "", "v1", parts[2:]
    elif len(parts) > 3 and parts[0] == "apis":
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if len(parts) > 2 and parts[0] == "namespaces" and parts[2] not in ("status", "finalize"):
        namespace, parts = parts[1], parts[2:]
    if len(parts) < 4 and parts[-1:] == [""]:
        parts = parts[:-1]  # a slash at the end
    if not parts or not all(parts[:3]):
        return None
    plural, name, subresource = (*parts[:3], "", "")[:3]
    rest = "/".join(parts[3:])
    return Target(group, version, namespace, plural, name, subresource, rest)


class Request:
    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: dict[str, str] = {}
        for key, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
            self.query.setdefault(key, value)
        self.headers: dict[str, str] = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        self._receive = receive

    def flag(self, name: str) -> bool:
        return self.query.get(name, "") in ("1", "t", "T", "true", "True", "TRUE")

    def seconds(self, name: str) -> int | None:
        """A whole number. Raises BadRequest."""
        text = self.query.get(name)
        if not text:
            return None
        if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
            raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        return int(text)

    @property
    def content_type(self) -> str:
        media_type, _, _ = self.headers.get("content-type", "").partition(";")
        return media_type.strip().lower()

    @property
    def manager(self) -> str:
        """Who changes fields, where the request does not say it: the first word of the User-Agent."""
        return self.query.get("fieldManager") or self.headers.get("user-agent", "unknown").split("/")[0] or "unknown"

    async def body(self) -> bytes:
        """Raises TooLarge, BadRequest: the client went before the end, and half a request is none."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise BadRequest("unexpected EOF")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > LARGEST_BODY_BYTES:
                raise TooLarge(f"Request entity too large: limit is {LARGEST_BODY_BYTES}")
            if not message.get("more_body"):
                return b"".join(parts)

    async def disconnected(self) -> None:
        """Returns when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def object(self) -> dict[str, Any]:
        """The body, JSON, YAML or protobuf. Raises BadRequest, UnsupportedMediaType, TooLarge."""
        return self.read_object(await self.body())

    def read_object(self, body: bytes) -> dict[str, Any]:
        """A body in the form that the Content-Type says. Raises BadRequest, UnsupportedMediaType."""
        if self.content_type == PROTOBUF:
            return decoded(body)
        if self.content_type not in ("", *_OFFERED):
            raise UnsupportedMediaType((*_OFFERED, PROTOBUF))
        return parsed_object(body, yaml_too=self.content_type == YAML)


def parsed_object(body: bytes, *, yaml_too: bool = False) -> dict[str, Any]:
    """Raises BadRequest."""
    value = parsed(body, yaml_too=yaml_too)
    if not isinstance(value, dict):
        raise BadRequest(
            "couldn't get version/kind; json parse error: json: cannot unmarshal "
            f"{'array' if isinstance(value, list) else type(value).__name__} into Go value of type struct "
            '{ APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        )
    return value


def parsed(body: bytes, *, yaml_too: bool = False) -> Any:
    """Raises BadRequest."""
    try:
        if yaml_too:
            return json.loads(json.dumps(yaml.safe_load(body)))
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as exc:
        raise BadRequest(f"couldn't get version/kind; json parse error: {exc}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"invalid character '{name[0]}' looking for beginning of value")


@dataclass(frozen=True, slots=True)
class Form:
    """Of an answer: `shape` is Table, PartialObjectMetadata, PartialObjectMetadataList or ""."""

    media_type: str = JSON
    shape: str = ""


def accepted(header: str, *, shapes: tuple[str, ...] = ()) -> Form:
    """The first form in the Accept header that is served. Raises NotAcceptable."""
    clauses = [clause.strip() for clause in header.split(",") if clause.strip()]
    if not clauses:
        return Form()
    for clause in clauses:
        media_type, *parameters = (part.strip() for part in clause.split(";"))
        asked = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        media_type = {"*/*": JSON, "application/*": JSON}.get(media_type, media_type)
        if media_type not in _OFFERED:
            continue
        shape = asked.get("as", "")
        if not shape:
            return Form(media_type)
        if shape in shapes and asked.get("g") == _META and asked.get("v") in ("v1", "v1beta1"):
            return Form(media_type, shape)
    raise NotAcceptable(_OFFERED)
