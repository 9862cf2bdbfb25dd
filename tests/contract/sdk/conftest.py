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
    """Either client, called by a method's name; results are awaited where they must be, iterations are lists."""

    def __init__(self, kind: str, base_url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        client_class: Any = {"blocking": OnMemOSClient, "async": AsyncOnMemOSClient}[kind]
        self._client = client_class(base_url, **{"api_key": KEY, "timeout": 5, "retries": QUICK, **options})

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        outcome = getattr(self._client, method)(*args, **kwargs)
        if inspect.isawaitable(outcome):
            return self._runner.run(_awaited(outcome))
        if inspect.isasyncgen(outcome):
            return self._runner.run(_listed(outcome))
        return list(outcome) if inspect.isgenerator(outcome) else outcome

    def close(self) -> None:
        self("close")
        self._runner.close()


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
    """An empty service and a wire without faults."""
    service, wire = shared_stack.service, shared_stack.wire
    for state in (service.sessions, service.commands, service.keys, wire.script):
        state.clear()
    wire.requests = wire.connections = 0
    return shared_stack


@pytest.fixture(params=["blocking", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def client(kind: str, stack: Stack) -> Iterator[Face]:
    face = Face(kind, stack.url)
    yield face
    face.close()
