"""What shared.answers says is what the schemas say that it says: nothing unknown, nothing missing, at any depth."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from marshmallow import ValidationError

from infra.openapi.examples import BEGAN, CONNECTION, EXECUTION, JOB, KEY, PLAN, SESSION, TEMPLATE
from shared import answer_schema, answers
from shared.answer_schema import Answer
from shared.callers import Scope
from shared.job_models import JobOutput, JobPage, JobSpec, JobState
from shared.models import NEVER, Filestore, Page, Position, ProviderName, State, Storage

FULL = replace(
    SESSION,
    state=State.FAILED,
    error="the image has no agent",
    labels={"a": "b"},
    idle_timeout_minutes=5,
    storage=Storage("datasets", "/mnt/datasets", True, Filestore("10.0.0.2", "vol1")),
)
SUSPENDED = replace(
    SESSION, state=State.SUSPENDED, expires_at=NEVER, turned_at=BEGAN, ttl_left=timedelta(minutes=7), boots=3
)
ELSEWHERE = replace(SESSION, provider=ProviderName.GKE, url="http://10.1.2.3:8080", details={"pod": "p"})
LISTED = [answers.session_json(session) for session in (SESSION, FULL, SUSPENDED, ELSEWHERE)]
ARGV = replace(JOB, spec=JobSpec(argv=("a", "b")), state=JobState.FAILED, error="no", returncode=1)
WAITING = replace(JOB, state=JobState.PENDING, attempts=0, returncode=None, started_at=None, finished_at=None)
POSITION = Position(BEGAN, SESSION.id)
JOBS = JobPage((JOB, ARGV, WAITING), POSITION)
DEAD_KEY = replace(
    KEY, scopes=frozenset(Scope), namespaces=None, expires_at=BEGAN, revoked_at=datetime(2027, 1, 1, tzinfo=UTC)
)
SSH = {"command": "gcloud workstations ssh w", "tunnel": "gcloud …", "host": "w.example", "workstation": "w"}

SAID: dict[type[Answer], list[dict[str, Any]]] = {
    answer_schema.SessionAnswer: LISTED,
    answer_schema.SessionPageAnswer: [
        answers.page_json(Page((SESSION, FULL, SUSPENDED), POSITION)), answers.page_json(Page(())),
    ],
    answer_schema.WorkspacePageAnswer: [answers.page_json(Page((SESSION,), POSITION), "workspaces")],
    answer_schema.DeletedSessionAnswer: [answers.deleted_json(SESSION.moved(State.DELETING))],
    answer_schema.PlanAnswer: [answers.plan_json(PLAN), answers.plan_json(replace(PLAN, notes=("and a cluster",)))],
    answer_schema.ConnectionAnswer: [
        answers.connection_json(CONNECTION),
        answers.connection_json(replace(CONNECTION, url=None, websocket=None, ssh=SSH)),
    ],
    answer_schema.ExecutionAnswer: [
        answers.execution_json(EXECUTION), answers.execution_json(replace(EXECUTION, stdout="\0", returncode=-1)),
    ],
    answer_schema.JobAnswer: [
        answers.job_json(job, JobOutput(b"\xff\0", b"e", True)) for job in (JOB, ARGV, WAITING)
    ],
    answer_schema.JobPageAnswer: [answers.jobs_json(JOBS), answers.jobs_json(JobPage(()))],
    answer_schema.ListedJobAnswer: answers.jobs_json(JOBS)["jobs"],
    answer_schema.TemplateAnswer: [
        answers.template_json(TEMPLATE), answers.template_json(replace(TEMPLATE, unavailable="no go", env={"A": "b"})),
    ],
    answer_schema.KeyAnswer: [answers.key_json(KEY), answers.key_json(DEAD_KEY)],
}  # fmt: skip


@pytest.mark.parametrize("schema", SAID, ids=lambda schema: schema.__name__)
def test_an_answer_has_all_that_its_schema_says_and_nothing_else(schema: type[Answer]) -> None:
    for said in SAID[schema]:
        schema().load(said)


@pytest.mark.parametrize("schema", SAID, ids=lambda schema: schema.__name__)
def test_no_field_of_a_schema_is_one_that_no_answer_has(schema: type[Answer]) -> None:
    assert {field for said in SAID[schema] for field in said} == set(schema().fields)


@pytest.mark.parametrize("schema", SAID, ids=lambda schema: schema.__name__)
def test_a_field_that_no_schema_says_is_noticed(schema: type[Answer]) -> None:
    with pytest.raises(ValidationError, match="unknown field"):
        schema().load({**SAID[schema][0], "secret_plan": 1})


@pytest.mark.parametrize("schema", SAID, ids=lambda schema: schema.__name__)
def test_a_field_that_is_missing_is_noticed(schema: type[Answer]) -> None:
    said = SAID[schema][0]
    name = next(name for name in schema().fields if name not in schema.sometimes)
    with pytest.raises(ValidationError, match="required"):
        schema().load({field: value for field, value in said.items() if field != name})


def test_what_lies_deeper_is_held_to_its_schema_too() -> None:
    said = answers.session_json(SESSION)
    for wrong in (
        {**said, "details": {"boots": 1, "limits": 3}},
        {**said, "details": {"reason": "boots are missing"}},
        {**said, "storage": {**said["storage"], "filestore": {"ip": "10.0.0.2"}}},
        {**said, "labels": {"a": 1}},
    ):
        with pytest.raises(ValidationError):
            answer_schema.SessionAnswer().load(wrong)


def test_a_suspended_session_with_no_time_left_says_so() -> None:
    said = answers.session_json(replace(SUSPENDED, ttl_left=timedelta(0)))
    assert said["ttl_left_seconds"] == 0
    answer_schema.SessionAnswer().load(said)
