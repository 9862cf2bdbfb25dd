"""Responses become objects or typed errors."""

import pickle
from datetime import UTC, datetime

import httpx
import pytest

import sdk.python as onmemos
from sdk.python import answers
from sdk.python.errors import APIError, CommandFailed, OnMemOSError
from sdk.python.transport import SocketClosed

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def read(status: int, **how: object) -> dict[str, object]:
    request = httpx.Request("GET", "http://service/v1/sessions?page_token=x")
    return answers.read(httpx.Response(status, request=request, **how))  # type: ignore[arg-type]


def refused(status: int, **how: object) -> APIError:
    with pytest.raises(APIError) as caught:
        read(status, **how)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, onmemos.BadRequest),
        (401, onmemos.Unauthorized),
        (403, onmemos.Forbidden),
        (404, onmemos.NotFound),
        (409, onmemos.Conflict),
        (410, onmemos.SessionEnded),
        (418, APIError),
        (429, onmemos.RateLimited),
        (500, onmemos.ServerError),
        (502, onmemos.Unavailable),
        (503, onmemos.Unavailable),
        (504, onmemos.Unavailable),
        (599, onmemos.ServerError),
    ],
)
def test_each_status_has_its_class(status: int, kind: type[APIError]) -> None:
    error = refused(status, json={"detail": "no", "code": "stable"})
    assert type(error) is kind
    assert (error.status, error.detail, error.code) == (status, "no", "stable")


def test_a_session_that_failed_has_a_class_of_its_own_among_the_conflicts() -> None:
    error = refused(409, json={"detail": "no image", "code": "session_failed"})
    assert type(error) is onmemos.SessionFailed
    assert isinstance(error, onmemos.Conflict)


def test_a_session_that_is_suspended_says_how_to_resume_it() -> None:
    error = refused(409, json={"detail": "session s is suspended", "code": "session_suspended"})
    assert type(error) is onmemos.SessionSuspended
    assert isinstance(error, onmemos.Conflict)
    assert not error.may_have_executed
    assert str(error).startswith("409 session_suspended: session s is suspended; session.resume() or client.resume_")


def test_an_error_carries_the_fields_and_the_request_id() -> None:
    body = {"detail": "ttl_minutes: 0", "code": "invalid_request", "errors": {"ttl_minutes": ["0 is too small"]}}
    error = refused(400, json=body, headers={"X-Request-Id": "r-1"})
    assert error.errors == {"ttl_minutes": ["0 is too small"]}
    assert error.request_id == "r-1"
    assert str(error) == "400 invalid_request: ttl_minutes: 0 (request r-1)"


def test_the_gateways_own_errors_are_understood() -> None:
    error = refused(404, json={"code": 404, "message": "The current request is not defined by this API."})
    assert isinstance(error, onmemos.NotFound)
    assert error.detail == "The current request is not defined by this API."
    assert error.code is None


def test_an_error_that_is_not_json_is_quoted_in_short() -> None:
    error = refused(502, text="<html>\n<h1>Bad Gateway</h1>" + "x" * 10_000)
    assert error.detail.startswith("<html> <h1>Bad Gateway</h1>xxx")
    assert len(error.detail) == answers.EXCERPT_CHARS


def test_an_empty_error_says_what_its_status_means() -> None:
    assert refused(503).detail == "Service Unavailable"


def test_a_redirect_is_an_error_that_names_its_target() -> None:
    assert "https://elsewhere/" in refused(308, headers={"Location": "https://elsewhere/"}).detail


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"", b'"text"', b'{"cut": ', b"\xff\xfe\xfa"])
def test_a_success_without_an_object_is_an_invalid_response(body: bytes) -> None:
    with pytest.raises(onmemos.InvalidResponse, match=r"http://service/v1/sessions: HTTP 200 with text/html"):
        read(200, content=body, headers={"Content-Type": "text/html"})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2026 12:00:30 -0000", None),
        ("-3", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert answers.retry_after_s(header, NOON) == seconds


@pytest.mark.parametrize("status", [400, 404, 409, 429])
def test_a_refusal_was_not_carried_out(status: int) -> None:
    assert not refused(status).may_have_executed


def test_a_failure_of_the_service_may_have_been_carried_out_unless_it_says_otherwise() -> None:
    assert refused(500).may_have_executed
    assert refused(503, json={"detail": "lost", "code": "workspace_lost"}).may_have_executed
    assert not refused(503, json={"detail": "starting", "code": "session_not_ready"}).may_have_executed
    assert not refused(503, json={"detail": "moving", "code": "frozen"}).may_have_executed


@pytest.mark.parametrize(
    "error",
    [
        onmemos.NotFound(404, "gone", "session_not_found", {"id": ["no"]}, "r-1", 2.0),
        onmemos.SessionEnded(410, "deleted", "session_ended"),
        onmemos.SessionSuspended(409, "suspended", "session_suspended"),
        onmemos.ConnectTimeout("slow"),
        SocketClosed(1012, "restarting"),
        CommandFailed({"stdout": "a", "stderr": "b", "returncode": 3, "success": False}),
    ],
)
def test_errors_survive_pickling(error: OnMemOSError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
