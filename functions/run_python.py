"""POST /v1/cloudrun/workspaces/{workspace_id}/runpython."""

from typing import Any

from shared.answer_schema import ExecutionAnswer
from shared.answers import execution_json
from shared.http import REQUEST_LIMIT_BYTES, REQUEST_LIMIT_S, Call, endpoint
from shared.python_file import python_file
from shared.schemas import RunPython, RunPythonQuery
from shared.wiring import Services


@endpoint(
    "POST",
    "/v1/cloudrun/workspaces/{workspace_id}/runpython",
    query=RunPythonQuery,
    body=RunPython,
    needs_body=False,
    max_body_bytes=REQUEST_LIMIT_BYTES,
    timeout_s=REQUEST_LIMIT_S,
    answer=ExecutionAnswer,
)
async def run_python(call: Call, app: Services) -> dict[str, Any]:
    """Run Python code, given as `code` in the query or in a JSON body, as a file of its own."""
    command = python_file(call.query, call.body)
    return execution_json(await app.workspaces.execute(call.caller, call.path["workspace_id"], command))
