"""GET /v1/sessions/{session_id}/jobs."""

from typing import Any

from shared.answer_schema import JobPageAnswer
from shared.answers import jobs_json
from shared.http import Call, endpoint
from shared.job_schema import ListJobs
from shared.wiring import Services


@endpoint("GET", "/v1/sessions/{session_id}/jobs", query=ListJobs, timeout_s=120, answer=JobPageAnswer)
async def list_jobs(call: Call, app: Services) -> dict[str, Any]:
    """List a session's jobs, newest first, a page at a time and without their output."""
    size, after = call.query
    return jobs_json(await app.jobs.list(call.caller, call.path["session_id"], size, after))
