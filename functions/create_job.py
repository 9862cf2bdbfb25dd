"""POST /v1/sessions/{session_id}/jobs."""

from typing import Any

from shared.answer_schema import JobAnswer
from shared.answers import job_json
from shared.http import Call, endpoint
from shared.job_schema import CreateJob
from shared.wiring import Services


@endpoint(
    "POST",
    "/v1/sessions/{session_id}/jobs",
    status=201,
    body=CreateJob,
    timeout_s=120,
    answer=JobAnswer,
    is_idempotent=True,
)
async def create_job(call: Call, app: Services) -> dict[str, Any]:
    """Start a command that may outlive every request, beside a session and on its bucket."""
    key = call.headers.get("idempotency-key")
    return job_json(await app.jobs.create(call.caller, call.path["session_id"], call.body, idempotency_key=key))
