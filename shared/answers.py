"""Models to the JSON that callers get, and the page tokens that they send back."""

import base64
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from shared import names, prices
from shared.callers import ApiKey
from shared.choice import DIRECT_PROVIDERS, SSH_PROVIDERS
from shared.creation import Plan
from shared.job_models import NO_OUTPUT, Job, JobOutput, JobPage
from shared.models import (
    NEVER,
    Connection,
    Execution,
    Page,
    Position,
    Resources,
    Session,
    State,
)
from shared.templates import Template


def session_json(session: Session) -> dict[str, Any]:
    """A session as the contract shows it."""
    answer: dict[str, Any] = {
        "id": session.id,
        "provider": str(session.provider),
        "namespace": session.namespace,
        "user": session.user,
        "status": str(session.state),
        "url": session.url if session.provider in DIRECT_PROVIDERS else None,
        "websocket": f"/v1/cloudrun/workspaces/{session.id}/shell",
        "ssh": session.provider in SSH_PROVIDERS,
        "details": {**session.details, "boots": session.boots},
        "created_at": _timestamp(session.created_at),
        "expires_at": None if session.expires_at == NEVER else _timestamp(session.expires_at),
        "suspended_at": _suspended_at(session),
        "ttl_left_seconds": None if session.ttl_left is None else round(session.ttl_left.total_seconds(), 3),
        "template": session.template,
        "labels": dict(session.labels),
        "idle_timeout_minutes": session.idle_timeout_minutes,
        "long_lived": session.long_lived,
        "auto_resume": session.auto_resume,
        "storage": _storage_json(session),
    }
    if session.error is not None:
        answer["error"] = session.error
    return answer


def _suspended_at(session: Session) -> str | None:
    if session.state is not State.SUSPENDED or session.turned_at is None:
        return None
    return _timestamp(session.turned_at)


def _storage_json(session: Session) -> dict[str, Any]:
    return {**asdict(session.storage), "bucket": session.storage.bucket or names.bucket_name(session.id)}


def deleted_json(session: Session) -> dict[str, Any]:
    return {"id": session.id, "status": str(session.state), "success": True}


def page_json(page: Page, name: str = "sessions") -> dict[str, Any]:
    """{sessions, next_page_token}; the token is null on the last page."""
    token = page.next and _token(page.next)
    return {name: [session_json(session) for session in page.sessions], "next_page_token": token}


def plan_json(plan: Plan) -> dict[str, Any]:
    """What a session would be; prices are the list's of the month that `prices_of` names."""
    return {
        "provider": str(plan.choice.provider),
        "reasons": list(plan.choice.reasons),
        "resources": _resources_json(plan.resources),
        "expected_start_seconds": plan.expected_start_s,
        "cost_per_hour_usd": plan.cost_per_hour_usd,
        "prices_of": prices.PRICES_OF,
        "notes": list(plan.notes),
    }


def connection_json(connection: Connection) -> dict[str, Any]:
    return {
        "url": connection.url,
        "websocket": connection.websocket,
        "ticket": connection.ticket,
        "expires_at": _timestamp(connection.expires_at),
        "ssh": connection.ssh and dict(connection.ssh),
    }


def template_json(template: Template) -> dict[str, Any]:
    """A template; `reason` says why it is not available."""
    return {
        "name": template.name,
        "description": template.description,
        "image": template.image,
        "resources": _resources_json(template.resources),
        "env": dict(template.env),
        "available": template.unavailable is None,
        "reason": template.unavailable,
    }


def key_json(key: ApiKey) -> dict[str, Any]:
    """A key without its secret, which nobody knows any more."""
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "namespaces": None if key.namespaces is None else sorted(key.namespaces),
        "created_at": _timestamp(key.created_at),
        "expires_at": key.expires_at and _timestamp(key.expires_at),
        "revoked_at": key.revoked_at and _timestamp(key.revoked_at),
    }


def job_json(job: Job, output: JobOutput = NO_OUTPUT) -> dict[str, Any]:
    """A job with its output; bytes that are no UTF-8 are shown as U+FFFD."""
    texts = {"stdout": _text(output.stdout), "stderr": _text(output.stderr), "truncated": output.truncated}
    return {**_job_json(job), **texts}


def jobs_json(page: JobPage) -> dict[str, Any]:
    """{jobs, next_page_token}, without output; the token is null on the last page."""
    return {"jobs": [_job_json(job) for job in page.jobs], "next_page_token": page.next and _token(page.next)}


def _job_json(job: Job) -> dict[str, Any]:
    command = {"command": job.spec.line} if job.spec.argv is None else {"argv": list(job.spec.argv)}
    return {
        "id": job.id,
        "session_id": job.session_id,
        "state": str(job.state),
        **command,
        "timeout": job.spec.timeout_s,
        "retries": job.spec.retries,
        "attempts": job.attempts,
        "returncode": job.returncode,
        "created_at": _timestamp(job.created_at),
        "started_at": job.started_at and _timestamp(job.started_at),
        "finished_at": job.finished_at and _timestamp(job.finished_at),
        "error": job.error,
    }


def _text(tail: bytes) -> str:
    """What was cut off may end in the middle of a character: up to three bytes that only continue one are left out."""
    start = next((at for at, byte in enumerate(tail[:4]) if byte & 0xC0 != 0x80), 0)
    return tail[start:].decode(errors="replace")


def _resources_json(resources: Resources) -> dict[str, Any]:
    cpu = int(resources.cpu) if resources.cpu.is_integer() else resources.cpu
    return {"cpu": cpu, "memory": f"{resources.memory_bytes >> 20}Mi"}


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
        if created_at.tzinfo is None or not re.fullmatch(r"[a-z0-9-]{1,63}", session_id):
            return None
        return Position(created_at.astimezone(UTC), session_id)
    except (ValueError, OverflowError):  # binascii's and Unicode's complaints are ValueErrors too
        return None
