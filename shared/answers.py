"""Models to the JSON that callers get, and the page tokens that they send back."""

import base64
import re
from datetime import UTC, datetime
from typing import Any

from shared.models import Execution, Page, Position, Session


def session_json(session: Session) -> dict[str, Any]:
    """A session as the contract shows it."""
    answer: dict[str, Any] = {
        "id": session.id,
        "provider": str(session.provider),
        "namespace": session.namespace,
        "user": session.user,
        "status": str(session.state),
        "url": session.url,
        "websocket": f"/v1/cloudrun/workspaces/{session.id}/shell",
        "ssh": False,
        "details": {**session.details, "boots": session.boots},
        "created_at": _timestamp(session.created_at),
        "expires_at": _timestamp(session.expires_at),
        "template": session.template,
        "labels": dict(session.labels),
    }
    if session.error is not None:
        answer["error"] = session.error
    return answer


def page_json(page: Page) -> dict[str, Any]:
    """{sessions, next_page_token}; the token is null on the last page."""
    token = page.next and _token(page.next)
    return {"sessions": [session_json(session) for session in page.sessions], "next_page_token": token}


def execution_json(execution: Execution) -> dict[str, Any]:
    """A command's end as the contract shows it, and whether it was cut short."""
    return {
        "stdout": execution.stdout,
        "stderr": execution.stderr,
        "returncode": execution.returncode,
        "success": execution.returncode == 0,
        "timed_out": execution.timed_out,
        "truncated": execution.truncated,
        "duration_ms": execution.duration_ms,
    }


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _token(position: Position) -> str:
    text = f"{position.created_at.isoformat()} {position.session_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position(token: str) -> Position | None:
    """The place that a next_page_token names; None when it is none of ours."""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        at, session_id = text.split(" ")
        created_at = datetime.fromisoformat(at)
    except ValueError:  # binascii's and Unicode's complaints are ValueErrors too
        return None
    if created_at.tzinfo is None or not re.fullmatch(r"[a-z0-9-]+", session_id):
        return None
    return Position(created_at, session_id)
