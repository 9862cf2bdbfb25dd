"""POST /v1/sessions/{session_id}/jobs/{job_id}/cancel."""

from typing import Any

from shared.answer_schema import JobAnswer
from shared.answers import job_json
from shared.http import Call, endpoint
from shared.wiring import Services


@endpoint("POST", "/v1/sessions/{session_id}/jobs/{job_id}/cancel", timeout_s=120, answer=JobAnswer)
async def cancel_job(call: Call, app: Services) -> dict[str, Any]:
    """End a job; one that is over stays what it is."""
    return job_json(*await app.jobs.cancel(call.caller, call.path["session_id"], call.path["job_id"]))
