"""The three providers through the API: the same sessions with the same features, suspended, resumed and moved."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.local.stack import Stack
from sdk.python import AsyncOnMemOSClient
from sdk.python.client import OnMemOSClient
from sdk.python.errors import BadRequest, Conflict
from tests.e2e.remains import Remains, is_gone, until

PROVIDERS = ("cloud_run", "gke", "workstations")
Session = dict[str, Any]
Run = Callable[[Session, str], str]
# What a work folder may hold: an empty folder, a link, a program, a name that is no ASCII, and a large file.
FILL = """
mkdir -p deep/er empty; echo kept > deep/er/note; ln -s deep/er/note link; printf '#!/bin/sh\\necho ran\\n' > tool
chmod 755 tool; echo ü > 'ä ö'; head -c 3000000 /dev/zero > large; touch -d '2001-02-03 04:05:06' large
"""
LOOK = "cat deep/er/note link 'ä ö'; ./tool; ls -d empty; stat -c '%s %Y' large; id -un"


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[OnMemOSClient]:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        yield client


@pytest.fixture
def mark() -> str:
    return f"m{uuid.uuid4().hex[:8]}"


@pytest.fixture
def sh(client: OnMemOSClient) -> Run:
    """Run a command that must succeed; what it printed."""

    def run(session: Session, command: str) -> str:
        return str(client.execute_session(session["id"], command, check=True)["stdout"])

    return run


@pytest.fixture
def create(client: OnMemOSClient, stack: Stack, mark: str) -> Iterator[Callable[..., Session]]:
    """A session that runs; at the end nothing of it is left anywhere."""
    made = []

    def create(provider: str, **asked: Any) -> Session:
        session: Any = client.create_session({"namespace": mark, "user": "dev", "provider": provider, **asked}, wait=60)
        made.append(session["id"])
        assert session["status"] == "running", session
        assert session["provider"] == provider
        return dict(session)

    yield create
    for session_id in made:
        client.delete_session(session_id)
        until(lambda one=session_id: is_gone(client, one), "the session is gone")  # type: ignore[misc]
    remains = Remains(stack, mark)
    until(lambda: not remains.found(), f"nothing left of {mark}: {remains.found()}")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_session_is_the_same_on_every_provider(
    client: OnMemOSClient, stack: Stack, create: Callable[..., Session], sh: Run, provider: str
) -> None:
    session = create(provider, env={"GREETING": "hello"}, labels={"team": "x"})
    facts = sh(session, "echo $GREETING; pwd; id -u; echo $WORKSPACE_ID").split()
    assert facts == ["hello", "/workspace", "1000", session["id"]]
    assert client.execute_session(session["id"], "exit 7")["returncode"] == 7
    assert session["ssh"] is (provider == "workstations")
    connection = client.connect_session(session["id"])
    assert (connection["ssh"] is not None) is (provider == "workstations")
    with client.sessions.get(session["id"]).shell() as shell:
        shell.execute("cd /tmp; x=1")
        assert shell.execute("echo $PWD $x")["stdout"] == "/tmp 1\n"
    with OnMemOSClient(stack.base_url, stack.api_key, direct=False) as functions:
        assert functions.execute_session(session["id"], "echo functions")["stdout"] == "functions\n"
    found = [one["id"] for one in client.list_sessions(provider=provider, label="team=x")["sessions"]]
    assert session["id"] in found


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_files_of_a_session_outlive_its_suspension(
    client: OnMemOSClient, create: Callable[..., Session], sh: Run, provider: str
) -> None:
    session = create(provider, ttl_minutes=30)
    sh(session, FILL)
    sh(session, "nohup sleep 1000 >/dev/null 2>&1 &")
    before = sh(session, LOOK)
    asleep = client.suspend_session(session["id"])
    assert (asleep["status"], asleep["expires_at"], asleep["url"]) == ("suspended", None, None)
    assert 1700 < (asleep["ttl_left_seconds"] or 0) <= 1800
    assert asleep["details"]["notice"] == "suspended: 1 process ended"
    with pytest.raises(Conflict, match="resume it first") as refusal:
        client.execute_session(session["id"], "pwd")
    assert refusal.value.code == "session_suspended"
    awake = client.resume_session(session["id"])
    assert (awake["status"], awake["ttl_left_seconds"], awake["suspended_at"]) == ("running", None, None)
    assert awake["details"]["boots"] == 2
    assert sh(session, LOOK) == before
    assert "sleep" not in sh(session, "ps -e -o comm=")


def test_a_disk_of_its_own_keeps_a_long_lived_sessions_files(
    client: OnMemOSClient, create: Callable[..., Session], sh: Run
) -> None:
    session = create("gke", long_lived=True)
    sh(session, FILL)
    before = sh(session, LOOK)
    client.suspend_session(session["id"])
    assert client.resume_session(session["id"])["status"] == "running"
    assert sh(session, LOOK) == before


def test_a_command_wakes_a_session_that_was_made_so(
    client: OnMemOSClient, create: Callable[..., Session], sh: Run
) -> None:
    session = create("cloud_run", auto_resume=True)
    sh(session, "echo kept > note")
    assert client.suspend_session(session["id"])["status"] == "suspended"
    assert sh(session, "cat note") == "kept\n"


@pytest.mark.parametrize(
    ("first", "second"), [("cloud_run", "gke"), ("gke", "workstations"), ("workstations", "cloud_run")]
)
def test_a_session_moves_with_its_id_and_its_files(
    client: OnMemOSClient, create: Callable[..., Session], sh: Run, first: str, second: str
) -> None:
    session = create(first)
    sh(session, FILL)
    before = sh(session, LOOK)
    moved = client.move_session(session["id"], second)
    assert (moved["id"], moved["provider"], moved["status"]) == (session["id"], second, "running"), moved
    assert moved["expires_at"] == session["expires_at"]
    assert sh(session, LOOK) == before


def test_where_a_session_cannot_go_is_said_before_anything_begins(
    client: OnMemOSClient, create: Callable[..., Session], sh: Run
) -> None:
    session = create("cloud_run", network={"egress": False})
    with pytest.raises(BadRequest, match="workstations"):
        client.move_session(session["id"], "workstations")
    assert client.get_session(session["id"])["status"] == "running"
    assert sh(session, "echo untouched") == "untouched\n"


@pytest.mark.parametrize(
    ("provider", "asked", "field"),
    [
        ("workstations", {"network": {"egress": False}}, "network.egress"),
        ("workstations", {"storage": {"keep": True}}, "storage"),
        ("workstations", {"resources": {"cpu": 64, "memory": "256Gi"}}, "resources"),
        ("cloud_run", {"needs_ssh": True}, "needs_ssh"),
        ("gke", {"needs_ssh": True}, "needs_ssh"),
        ("gke", {"resources": {"cpu": 64, "memory": "2Gi"}}, "resources.cpu"),
    ],
)
def test_a_combination_that_no_workspace_has_is_named(
    client: OnMemOSClient, mark: str, provider: str, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadRequest) as refusal:
        client.create_session({"namespace": mark, "user": "dev", "provider": provider, **asked})
    assert any(name.startswith(field) for name in refusal.value.errors), refusal.value
    assert provider in str(refusal.value)


def test_many_suspensions_at_once_keep_every_sessions_own_files(
    client: OnMemOSClient, stack: Stack, create: Callable[..., Session], sh: Run
) -> None:
    sessions = [create("cloud_run") for _ in range(4)]
    for session in sessions:
        sh(session, f"echo {session['id']} > mine; head -c 2000000 /dev/urandom > noise; cksum noise > sum")

    async def there_and_back() -> None:
        async with AsyncOnMemOSClient(stack.base_url, stack.api_key) as many:
            await asyncio.gather(*(many.suspend_session(session["id"]) for session in sessions))
            await asyncio.gather(*(many.resume_session(session["id"]) for session in sessions))

    asyncio.run(there_and_back())
    for session in sessions:
        assert sh(session, "cat mine; cksum noise | diff - sum") == f"{session['id']}\n"
