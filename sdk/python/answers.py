"""What an HTTP response means: its JSON object, or the typed error."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from .errors import APIError, InvalidResponse, class_of

EXCERPT_CHARS = 200  # of a body that is not ours, for the error's message


def read(response: httpx.Response) -> dict[str, Any]:
    """The object of a 2xx. Raises an APIError for every other status; InvalidResponse: a 2xx without an object."""
    body = _json(response)
    if not response.is_success:
        raise _error(response, body if isinstance(body, dict) else {})
    if not isinstance(body, dict):
        seen = response.headers.get("content-type", "no content type")
        raise InvalidResponse(
            f"{response.request.method} {response.request.url.copy_with(query=None)}: HTTP {response.status_code} with "
            f"{seen} where a JSON object is wanted: {_excerpt(response)!r}"
        )
    return body


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds to wait as a Retry-After header asks (RFC 9110 10.2.3: seconds or a date); None: it asks for nothing."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError):  # not a date, or one without a time zone
        return None


def _error(response: httpx.Response, body: Mapping[str, Any]) -> APIError:
    # `message` is what API Gateway and Google's front ends write where the service writes `detail`.
    detail = body.get("detail") or body.get("message") or _excerpt(response) or response.reason_phrase
    if response.has_redirect_location:
        detail = f"redirected to {response.headers['location']}; redirects are not followed"
    code, errors = body.get("code"), body.get("errors")
    code = code if isinstance(code, str) else None
    return class_of(response.status_code, code)(
        response.status_code,
        str(detail),
        code,
        errors if isinstance(errors, dict) else None,
        response.headers.get("x-request-id"),
        retry_after_s(response.headers.get("retry-after"), datetime.now(UTC)),
    )


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _excerpt(response: httpx.Response) -> str:
    return " ".join(response.text[: 4 * EXCERPT_CHARS].split())[:EXCERPT_CHARS]
