"""The API server's refusals: Status objects as exceptions, with the reasons, words and details of the real ones."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.emulators.kubernetes.kinds import Kind


class StatusError(Exception):
    """`body()` is what the client is told; `code` is the HTTP status."""

    code = 500
    reason = "InternalError"

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}

    def body(self) -> dict[str, Any]:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            **({"details": self.details} if self.details else {}),
            "code": self.code,
        }


class BadRequest(StatusError):
    code, reason = 400, "BadRequest"


class Unauthorized(StatusError):
    code, reason = 401, "Unauthorized"

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class Forbidden(StatusError):
    """An admission's refusal."""

    code, reason = 403, "Forbidden"

    def __init__(self, kind: "Kind", name: str, why: str, causes: list[dict[str, str]] | None = None) -> None:
        named = f'{kind.resource} "{name}"' if name else kind.resource
        super().__init__(f"{named} is forbidden: {why}", _details(kind, name, causes))


class NotFound(StatusError):
    code, reason = 404, "NotFound"

    def __init__(self, kind: "Kind", name: str) -> None:
        super().__init__(f'{kind.resource} "{name}" not found', _details(kind, name))


class PageNotFound(StatusError):
    """A group that is not served: the real server answers in plain text."""

    code, reason = 404, "NotFound"

    def __init__(self) -> None:
        super().__init__("404 page not found\n")


class NoSuchPath(StatusError):
    """A resource that its group does not have."""

    code, reason = 404, "NotFound"

    def __init__(self) -> None:
        super().__init__("the server could not find the requested resource")


class MethodNotSupported(StatusError):
    code, reason = 405, "MethodNotAllowed"

    def __init__(self) -> None:
        super().__init__("the server does not allow this method on the requested resource")


class NotAcceptable(StatusError):
    code, reason = 406, "NotAcceptable"

    def __init__(self, accepted: Iterable[str]) -> None:
        super().__init__(f"only the following media types are accepted: {', '.join(accepted)}")


class AlreadyExists(StatusError):
    code, reason = 409, "AlreadyExists"

    def __init__(self, kind: "Kind", name: str) -> None:
        super().__init__(f'{kind.resource} "{name}" already exists', _details(kind, name))


class Conflict(StatusError):
    code, reason = 409, "Conflict"

    def __init__(self, kind: "Kind", name: str, why: str) -> None:
        super().__init__(f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}', _details(kind, name))


class ApplyConflict(StatusError):
    """Server-side apply: fields belong to other managers."""

    code, reason = 409, "Conflict"


class Gone(StatusError):
    """A resourceVersion or continue token from before the history that is kept."""

    code, reason = 410, "Expired"


class UnsupportedMediaType(StatusError):
    code, reason = 415, "UnsupportedMediaType"

    def __init__(self, accepted: Iterable[str]) -> None:
        super().__init__(
            "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
        )


class TooLarge(StatusError):
    code, reason = 413, "RequestEntityTooLarge"


class Unprocessable(StatusError):
    """A JSON patch that does not fit its object: the real server does not say in what."""

    code, reason = 422, "Invalid"

    def __init__(self) -> None:
        super().__init__("the server rejected our request due to an error in our request")


class NoMergeKey(StatusError):
    """A strategic merge patch with an item that lacks its key: the real server takes it for a fault of its own."""

    code, reason = 500, ""

    def __init__(self, item: Any, key: str) -> None:
        super().__init__(f"map: {in_go(item)} does not contain declared merge key: {key}")


class InternalError(StatusError):
    code, reason = 500, "InternalError"

    def __init__(self, why: str) -> None:
        super().__init__(f"Internal error occurred: {why}", {"causes": [{"message": why}]})


class Timeout(StatusError):
    """A resourceVersion that lies in the future."""

    code, reason = 504, "Timeout"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One cause of Invalid; `shown` says what was seen, as Go prints it."""

    type: str
    field: str
    title: str
    detail: str = ""
    shown: str | None = None

    @property
    def body(self) -> str:
        return ": ".join(part for part in (self.title, self.shown, self.detail) if part)

    def cause(self) -> dict[str, str]:
        return {"reason": self.type, "message": self.body, "field": self.field}


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, "Required value", detail)


def invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, "Invalid value", detail, shown(value))


def wrong_type(field: str, value: Any, wanted: str) -> FieldError:
    """As the schema of a custom resource is checked; `value` is the JSON type that was seen."""
    detail = f'{field or "<nil>"} in body must be of type {wanted}: "{value}"'
    return FieldError("FieldValueTypeInvalid", field, "Invalid value", detail, shown(value))


def unsupported(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    detail = "supported values: " + ", ".join(json.dumps(one) for one in supported)
    return FieldError("FieldValueNotSupported", field, "Unsupported value", detail, shown(value))


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", field, "Duplicate value", "", shown(value))


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, "Forbidden", detail)


def too_long(field: str, most: int) -> FieldError:
    return FieldError("FieldValueTooLong", field, "Too long", f"may not be more than {most} bytes")


def not_found(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueNotFound", field, "Not found", "", shown(value))


class Invalid(StatusError):
    code, reason = 422, "Invalid"

    def __init__(self, kind: "Kind", name: str, errors: list[FieldError]) -> None:
        told = [f"{error.field or '<nil>'}: {error.body}" for error in errors]
        listed = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
        qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
        super().__init__(
            f'{qualified} "{name}" is invalid: {listed}',
            {**_details(kind, name), "kind": kind.kind, "causes": [error.cause() for error in errors]},
        )


def shown(value: Any) -> str:
    """A value as Go's field errors print it."""
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def in_go(value: Any) -> str:
    """JSON as Go's %v prints it: map[image:x]."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{in_go(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(in_go, value))}]"
    if value is None or isinstance(value, bool):
        return "<nil>" if value is None else str(value).lower()
    return str(value)


def _details(kind: "Kind", name: str, causes: list[dict[str, str]] | None = None) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name, "group": kind.group, "kind": kind.plural, "causes": causes}
    return {key: value for key, value in details.items() if value}
