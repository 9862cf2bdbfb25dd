"""Two faces from one source: same operations, same signatures, one blocking."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import assert_type

import pytest

from sdk.python.client import AsyncOnMemOSClient, OnMemOSClient
from sdk.python.faces import drive
from sdk.python.jobs import AsyncJob, AsyncJobs, Job, Jobs
from sdk.python.sessions import AsyncSession, AsyncSessions, Session, Sessions
from sdk.python.shapes import ExecutionDict, JobDict, SessionDict, ShellResultDict
from sdk.python.shells import AsyncShell, Shell
from sdk.python.terminals import AsyncTerminal, Terminal
from sdk.python.workspaces import AsyncWorkspace, Workspace
from tests.unit.sdk.scripted import ScriptedClient, ok

PAIRS = [
    (OnMemOSClient, AsyncOnMemOSClient),
    (Sessions, AsyncSessions),
    (Session, AsyncSession),
    (Jobs, AsyncJobs),
    (Job, AsyncJob),
    (Workspace, AsyncWorkspace),
    (Shell, AsyncShell),
    (Terminal, AsyncTerminal),
]
ITERATIONS = {"iter_sessions", "iter_jobs", "list"}
SCOPES = {"cloudrun_workspace_session"}
FACTORIES = {"greeted", "begun"}  # of the async classes only: how they come to be

METHODS = [
    pytest.param(blocking, awaited, name, id=f"{blocking.__name__}.{name}")
    for blocking, awaited in PAIRS
    for name in dir(awaited)
    if not name.startswith("_") and name not in FACTORIES and callable(getattr(awaited, name))
]


@pytest.mark.parametrize(("blocking", "awaited", "name"), METHODS)
def test_both_faces_have_the_same_parameters_and_text(blocking: type, awaited: type, name: str) -> None:
    called, waited = getattr(blocking, name), getattr(awaited, name)
    assert inspect.signature(called).parameters == inspect.signature(waited).parameters
    assert called.__doc__ == waited.__doc__
    assert called.__doc__


@pytest.mark.parametrize(("blocking", "awaited", "name"), METHODS)
def test_only_the_async_face_is_made_of_coroutines(blocking: type, awaited: type, name: str) -> None:
    assert not inspect.iscoroutinefunction(getattr(blocking, name))
    assert inspect.iscoroutinefunction(getattr(awaited, name)) is (name not in ITERATIONS | SCOPES)


@pytest.mark.parametrize(("blocking", "awaited", "name"), METHODS)
def test_help_shows_the_types_of_each_face(blocking: type, awaited: type, name: str) -> None:
    assert "Async" not in str(inspect.signature(getattr(blocking, name)).return_annotation)
    assert inspect.signature(getattr(awaited, name)).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_no_face_is_the_other(blocking: type, awaited: type) -> None:
    assert not issubclass(blocking, awaited)
    assert not issubclass(awaited, blocking)


def test_type_checkers_see_each_faces_own_types() -> None:
    def checked(blocking: OnMemOSClient, awaited: AsyncOnMemOSClient) -> None:
        assert_type(blocking.execute_session("s", "ls", 10, check=True), ExecutionDict)
        assert_type(blocking.create_session({}, wait=0, template="go"), SessionDict)
        assert_type(blocking.iter_sessions(user="u"), Iterator[SessionDict])
        assert_type(awaited.iter_sessions(user="u"), AsyncIterator[SessionDict])
        assert_type(blocking.sessions.create({}, template="go"), Session)
        assert_type(blocking.sessions.list(user="u"), Iterator[Session])
        assert_type(awaited.sessions.list(user="u"), AsyncIterator[AsyncSession])
        assert_type(blocking.sessions.get("s").shell().execute("ls"), ShellResultDict)
        assert_type(blocking.sessions.get("s").status, str)
        assert_type(blocking.sessions.get("s").expires_at, datetime | None)
        assert_type(blocking.sessions.get("s").move("gke"), SessionDict)
        assert_type(blocking.sessions.get("s").jobs.create("ls").wait(), JobDict)
        assert_type(blocking.sessions.get("s").jobs.list(), Iterator[Job])
        assert_type(blocking.open_terminal("s", 24, 80).returncode, int | None)
        with blocking.cloudrun_workspace_session("go", "n", "u", ttl_minutes=1) as workspace:
            assert_type(workspace, Workspace)
            assert_type(workspace.shell(), Shell)
        with blocking.sessions.get("s") as session, session.shell() as shell:
            assert_type((session, shell), tuple[Session, Shell])

        async def inside() -> None:
            assert_type(await awaited.execute_session("s", "ls", 10, check=True), ExecutionDict)
            assert_type(await awaited.create_session({}, wait=0, template="go"), SessionDict)
            assert_type(await awaited.open_terminal("s"), AsyncTerminal)
            async with awaited.cloudrun_workspace_session("go", "n", "u") as workspace:
                assert_type(workspace, AsyncWorkspace)
                assert_type(await workspace.shell(), AsyncShell)
            async with await awaited.sessions.create(template="go") as session:
                assert_type(session, AsyncSession)
                assert_type(session.info, SessionDict)
                assert_type(await session.jobs.get("j"), AsyncJob)
                assert_type(session.jobs.list(), AsyncIterator[AsyncJob])

    assert callable(checked)  # mypy runs it


def test_a_fact_is_a_property_with_a_text() -> None:
    assert isinstance(inspect.getattr_static(Session, "id"), property)
    assert Session.id.__doc__ == AsyncSession.id.__doc__ != None  # noqa: E711


async def test_the_blocking_face_works_inside_a_running_loop() -> None:
    client = ScriptedClient(ok(sessions=[{"id": "a"}], next_page_token=None), ok(status="ok"))
    assert [session["id"] for session in client.iter_sessions()] == ["a"]
    assert client.health() == {"status": "ok"}


def test_an_iteration_that_is_left_early_is_closed() -> None:
    client = ScriptedClient(ok(sessions=[{"id": "a"}, {"id": "b"}], next_page_token="1"))
    for session in client.iter_sessions():
        assert session["id"] == "a"
        break
    assert len(client.transport.requests) == 1


def test_what_suspends_cannot_be_driven() -> None:
    with pytest.raises(RuntimeError, match="suspended"):
        drive(asyncio.sleep(0))
