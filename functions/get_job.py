"""GET /v1/sessions/{session_id}/jobs/{job_id}."""

from typing import Any

from shared.answer_schema import JobAnswer
from shared.answers import job_json
from shared.http import Call, endpoint
from shared.wiring import Services


@endpoint("GET", "/v1/sessions/{session_id}/jobs/{job_id}", timeout_s=120, answer=JobAnswer)
async def get_job(call: Call, app: Services) -> dict[str, Any]:
    """Look at a job as it is now, with its newest output."""
    return job_json(*await app.jobs.get(call.caller, call.path["session_id"], call.path["job_id"]))
