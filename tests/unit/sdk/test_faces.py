"""Two faces from one source: same operations, same signatures, one blocking."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import pytest

from sdk.python.client import AsyncOnMemOSClient, OnMemOSClient
from sdk.python.faces import drive
from sdk.python.operations import Operations
from sdk.python.shapes import ExecutionDict, SessionDict
from tests.unit.sdk.scripted import ScriptedClient, ok

PUBLIC = [name for name in dir(Operations) if not name.startswith("_")]
PLAIN = [name for name in PUBLIC if name != "iter_sessions"]


@pytest.mark.parametrize("name", PUBLIC)
def test_both_faces_have_the_same_parameters_and_text(name: str) -> None:
    blocking, awaited = getattr(OnMemOSClient, name), getattr(AsyncOnMemOSClient, name)
    assert inspect.signature(blocking).parameters == inspect.signature(awaited).parameters
    assert blocking.__doc__ == awaited.__doc__
    assert blocking.__doc__


@pytest.mark.parametrize("name", PLAIN)
def test_only_the_async_face_is_made_of_coroutines(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(AsyncOnMemOSClient, name))
    assert not inspect.iscoroutinefunction(getattr(OnMemOSClient, name))


def test_type_checkers_see_each_faces_own_types() -> None:
    def checked(blocking: OnMemOSClient, awaited: AsyncOnMemOSClient) -> None:
        assert_type(blocking.execute_session("s", "ls", 10, check=True), ExecutionDict)
        assert_type(blocking.create_session({}, wait=0, template="go"), SessionDict)
        assert_type(blocking.iter_sessions(user="u"), Iterator[SessionDict])
        assert_type(awaited.iter_sessions(user="u"), AsyncIterator[SessionDict])

        async def inside() -> None:
            assert_type(await awaited.execute_session("s", "ls", 10, check=True), ExecutionDict)
            assert_type(await awaited.create_session({}, wait=0, template="go"), SessionDict)

    assert callable(checked)  # mypy runs it


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
