"""Every contract test of the SDK runs on both faces, against a real server."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from sdk.python.client import AsyncOnMemOSClient, OnMemOSClient
from sdk.python.retries import Retries
from tests.contract.sdk.service import KEY, Stack, running

QUICK = Retries(first_pause_s=0.005, longest_pause_s=0.02)


class Face:
    """Either client, called by a method's name; results are awaited where they must be, iterations are lists.

    Objects that come out, such as sessions and shells, are such faces themselves, also for `with`.
    """

    def __init__(self, kind: str, base_url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        client_class: Any = {"blocking": OnMemOSClient, "async": AsyncOnMemOSClient}[kind]
        self.target = client_class(base_url, **{"api_key": KEY, "timeout": 5, "retries": QUICK, **options})

    def of(self, target: Any) -> "Face":
        """Another object of the same client."""
        face = object.__new__(Face)
        face._runner, face.target = self._runner, target
        return face

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        outcome = getattr(self.target, method)(*args, **kwargs)
        if inspect.isawaitable(outcome):
            outcome = self._runner.run(_awaited(outcome))
        elif inspect.isasyncgen(outcome):
            outcome = self._runner.run(_listed(outcome))
        elif inspect.isgenerator(outcome):
            outcome = list(outcome)
        return outcome if isinstance(outcome, PLAIN) else self.of(outcome)

    def __enter__(self) -> "Face":
        asynchronous = hasattr(self.target, "__aenter__")
        entered = self._runner.run(self.target.__aenter__()) if asynchronous else self.target.__enter__()
        return self.of(entered)

    def __exit__(self, *how: Any) -> None:
        if hasattr(self.target, "__aexit__"):
            self._runner.run(self.target.__aexit__(*how))
        else:
            self.target.__exit__(*how)

    def close(self) -> None:
        self("close")
        self._runner.close()


PLAIN = (dict, list, str, bytes, type(None))


async def _awaited(outcome: Any) -> Any:
    return await outcome


async def _listed(items: Any) -> list[Any]:
    return [item async for item in items]


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[Stack]:
    with running() as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """An empty service and wires without faults."""
    shared_stack.reset()
    return shared_stack


@pytest.fixture(params=["blocking", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def client(kind: str, stack: Stack) -> Iterator[Face]:
    """One that goes by the service alone."""
    face = Face(kind, stack.url, direct=False)
    yield face
    face.close()


@pytest.fixture
def direct(kind: str, stack: Stack) -> Iterator[Face]:
    """One as it is by itself, and a session, ws-0, that has an agent."""
    stack.service.sessions["ws-0"] = {"id": "ws-0", "status": "running"}
    face = Face(kind, stack.url)
    yield face
    face.close()
