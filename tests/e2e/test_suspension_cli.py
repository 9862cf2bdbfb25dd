"""`onmemos` as a real process where sessions rest and move, and where commands outlive requests."""

import json
import signal
import uuid
from collections.abc import Iterator

import pytest

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from sdk.python.sessions import Session
from tests.e2e.test_cli import PATIENCE_S, Cli


@pytest.fixture(scope="module")
def cli(stack: Stack) -> Cli:
    return Cli(stack, f"t{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def session(stack: Stack) -> Iterator[Session]:
    """One for all, on Cloud Run until it moves."""
    with (
        OnMemOSClient(stack.base_url, stack.api_key) as client,
        client.sessions.create(template="python", namespace=f"t{uuid.uuid4().hex[:8]}", user="dev") as session,
    ):
        yield session


def test_a_job_is_as_if_its_command_ran_here(cli: Cli, session: Session) -> None:
    command = "echo $A | tee /data/made; echo err >&2; exit 7"
    done = cli("jobs", "run", session.id, "-e", "A=b", "--", "sh", "-c", command)
    assert (done.returncode, done.stdout) == (7, "b\n"), done.stderr
    assert "err\n" in done.stderr
    assert session.execute("cat /data/made")["stdout"] == "b\n"
    (job,) = cli.json("jobs", "ls", session.id)
    assert (job["state"], job["returncode"]) == ("failed", 7)
    words = {"_ONMEMOS_COMPLETE": "bash_complete", "COMP_WORDS": f"onmemos jobs get {session.id} j", "COMP_CWORD": "4"}
    assert f"plain,{job['id']}" in cli(env=words).stdout.split()


def test_a_job_outlives_ctrl_c_until_it_is_cancelled(cli: Cli, session: Session) -> None:
    following = cli.started("jobs", "run", session.id, "--", "echo begun; sleep 600")
    assert following.stdout is not None
    assert following.stdout.readline() == "begun\n"
    following.send_signal(signal.SIGINT)
    _, stderr = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 130
    job = next(session.jobs.list())
    assert f"onmemos jobs logs {session.id} {job.id} -f" in stderr
    assert job.state == "running"
    assert cli("jobs", "cancel", session.id, job.id).stdout == f"{job.id}\n"
    assert json.loads(cli("jobs", "logs", session.id, job.id, "-f", "--json").stdout)["state"] == "cancelled"


def test_a_session_rests_and_goes_on_with_its_files(cli: Cli, session: Session) -> None:
    session.execute("echo kept > file; chmod 750 file", check=True)
    rested = cli("suspend", session.id)
    assert (rested.returncode, rested.stdout) == (0, f"{session.id}\n"), rested.stderr
    assert rested.stderr.startswith("suspended on cloud_run; ")
    session.refresh()
    assert (session.status, session.expires_at) == ("suspended", None)
    assert 0 < (session.ttl_left_seconds or 0) <= 3600
    refused = cli("exec", session.id, "--", "true")
    assert (refused.returncode, refused.stdout) == (125, "")
    assert "onmemos resume" in refused.stderr
    resumed = cli("resume", session.id)
    assert (resumed.returncode, resumed.stdout) == (0, f"{session.id}\n"), resumed.stderr
    assert session.execute("stat -c %a file; cat file")["stdout"] == "750\nkept\n"


def test_a_command_resumes_a_session_that_is_to_be_so(cli: Cli, session: Session) -> None:
    session.execute("echo kept > file", check=True)
    assert cli.json("sessions", "update", session.id, "--auto-resume")["auto_resume"] is True
    assert session.suspend()["status"] == "suspended"
    done = cli("exec", session.id, "--", "cat", "file")
    assert (done.returncode, done.stdout) == (0, "kept\n"), done.stderr


def test_a_session_moves_to_where_ssh_is(cli: Cli, session: Session) -> None:
    without = cli("ssh", session.id, "--print")
    assert (without.returncode, without.stdout) == (1, "")
    assert f"onmemos move {session.id} --to workstations" in without.stderr
    moved = cli("move", session.id, "--to", "workstations")
    assert (moved.returncode, moved.stdout) == (0, f"{session.id}\n"), moved.stderr
    assert moved.stderr.startswith("running on workstations; ")
    assert session.execute("cat file")["stdout"] == "kept\n"
    assert cli("ssh", session.id, "--print").stdout.startswith("gcloud workstations ssh ")
