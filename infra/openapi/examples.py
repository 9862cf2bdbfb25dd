"""One story in examples: what its requests send, and what the code itself makes of it as their answers."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import Schema

from shared import answer_schema, answers
from shared.callers import ApiKey, Scope
from shared.choice import Choice
from shared.creation import Plan
from shared.errors import SessionNotFound
from shared.job_models import Job, JobOutput, JobPage, JobSpec, JobState
from shared.job_schema import CreateJob
from shared.key_schema import CreateKey
from shared.models import (
    Connection,
    Execution,
    Page,
    ProviderName,
    Resources,
    Session,
    State,
)  # fmt: skip
from shared.schemas import CreateSession, CreateWorkspace, ExecuteCommand, MoveSession, RunPython, UpdateSession
from shared.templates import Template

BEGAN = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
SESSION_ID = "ws-my-project-developer-1793611800"
PATHS = {
    "session_id": SESSION_ID, "workspace_id": SESSION_ID, "job_id": "job-2f9c4b7a1d3e5f60", "key_id": "9f86d081884c7d65"
}  # fmt: skip
QUERIES: Mapping[str, Mapping[str, str]] = {
    "create_session": {"wait": "30"},
    "execute_workspace": {"command": "pwd", "timeout": "30"},
    "list_jobs": {"page_size": "10"},
    "list_sessions": {"namespace": "my-project", "status": "running"},
    "list_workspaces": {"namespace": "my-project", "user": "developer"},
    "run_python": {"code": 'print("Hello World")'},
    "run_shell": {"command": "ls -la"},
}
SIZE = Resources(cpu=1.0, memory_bytes=2 << 30)
SESSION = Session(
    id=SESSION_ID,
    tenant="default",
    namespace="my-project",
    user="developer",
    provider=ProviderName.CLOUD_RUN,
    template="python",
    state=State.RUNNING,
    created_at=BEGAN,
    expires_at=BEGAN + timedelta(hours=1),
    resources=SIZE,
    labels={"team": "research"},
    url=f"https://onmemos-{SESSION_ID}-803927173002.us-central1.run.app",
    details={
        "reason": "cloud_run: starts soonest",
        "service_name": f"onmemos-{SESSION_ID}",
        "bucket_name": "onmemos-my-project-developer-1793611800",
    },
)
JOB = Job(
    id=PATHS["job_id"],
    session_id=SESSION_ID,
    spec=JobSpec(line="python train.py", timeout_s=3600.0, retries=1),
    created_at=BEGAN,
    state=JobState.SUCCEEDED,
    attempts=1,
    returncode=0,
    started_at=BEGAN + timedelta(seconds=12),
    finished_at=BEGAN + timedelta(minutes=20),
)
KEY = ApiKey(
    digest="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    name="ci",
    tenant="default",
    scopes=frozenset({Scope.SESSIONS}),
    created_at=BEGAN,
    namespaces=frozenset({"my-project"}),
)
PLAN = Plan(Choice(ProviderName.CLOUD_RUN, ("cloud_run: starts soonest",)), SIZE, 0.079, 8, ())
EXECUTION = Execution("Python 3.13.9\n", "", 0, False, False, 14.2, "b1")
CONNECTION = Connection(
    SESSION.url, f"wss{SESSION.url.removeprefix('https')}/v1/shell" if SESSION.url else None,
    "eyJhbGciOiJFZERTQSJ9…", BEGAN + timedelta(minutes=5),
)  # fmt: skip
TEMPLATE = Template("python", "Python with pip", "us-central1-docker.pkg.dev/my-project/onmemos/python:1")
KEY_JSON = answers.key_json(KEY)

BODIES: Mapping[type[Schema], Mapping[str, Any]] = {
    CreateSession: {
        "provider": "auto", "template": "python", "namespace": "my-project", "user": "developer", "ttl_minutes": 60
    },
    CreateWorkspace: {"template": "python", "namespace": "my-project", "user": "developer", "ttl_minutes": 30},
    CreateJob: {"command": "python train.py", "timeout": 3600, "retries": 1},
    CreateKey: {"name": "ci", "scopes": ["sessions"], "namespaces": ["my-project"]},
    ExecuteCommand: {"command": "python --version", "timeout": 30},
    MoveSession: {"provider": "gke"},
    RunPython: {"code": "print('Hello World')", "timeout": 30},
    UpdateSession: {"ttl_minutes": 120},
}  # fmt: skip
ANSWERS: Mapping[type[Schema], Mapping[str, Any]] = {
    answer_schema.ConnectionAnswer: answers.connection_json(CONNECTION),
    answer_schema.DeletedSessionAnswer: answers.deleted_json(SESSION.moved(State.DELETING)),
    answer_schema.ErrorAnswer: {"detail": str(SessionNotFound()), "code": SessionNotFound.code},
    answer_schema.ExecutionAnswer: answers.execution_json(EXECUTION),
    answer_schema.GatewayErrorAnswer: {"code": 504, "message": "upstream request timeout"},
    answer_schema.HealthAnswer: {"status": "healthy", "providers": ["cloud_run"]},
    answer_schema.JobAnswer: answers.job_json(JOB, JobOutput(stdout=b"loss 0.02\n")),
    answer_schema.JobPageAnswer: answers.jobs_json(JobPage((JOB,))),
    answer_schema.KeysAnswer: {"keys": [KEY_JSON]},
    answer_schema.NewKeyAnswer: {**KEY_JSON, "key": "onmemos_…"},
    answer_schema.PlanAnswer: answers.plan_json(PLAN),
    answer_schema.RevokedKeyAnswer: {**KEY_JSON, "revoked_at": "2026-11-02T10:30:00.000Z", "success": True},
    answer_schema.SessionAnswer: answers.session_json(SESSION),
    answer_schema.SessionPageAnswer: answers.page_json(Page((SESSION,))),
    answer_schema.TemplatesAnswer: {"templates": [answers.template_json(TEMPLATE)]},
    answer_schema.WorkspacePageAnswer: answers.page_json(Page((SESSION,)), "workspaces"),
}
