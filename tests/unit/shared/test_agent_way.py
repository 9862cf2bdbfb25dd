"""What refusals on the way to an agent mean: nothing was run, or nobody knows."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.agent import HttpAgents
from shared.agent_way import refusal
from shared.errors import OnMemOSError, WorkspaceLost, WorkspaceUnreachable
from shared.models import Command, ProviderName, Session
from tests.fakes import MemoryProvider, a_session
from tests.unit.shared.test_sessions import TICKETS


def status(code: int, message: str) -> dict[str, Any]:
    """As a cluster's API server answers."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (404, 'pods "ws-a" not found', WorkspaceUnreachable),
        (403, 'pods "ws-a" is forbidden', WorkspaceUnreachable),
        (
            503,
            "error trying to reach service: dial tcp 10.0.0.7:8080: connect: connection refused",
            WorkspaceUnreachable,
        ),
        (503, "error trying to reach service: EOF", WorkspaceLost),
        (503, "error trying to reach service: read tcp 10.0.0.7:8080: connection reset by peer", WorkspaceLost),
    ],
)
def test_a_clusters_proxy_says_whether_a_pod_has_seen_the_request(
    code: int, message: str, error: type[OnMemOSError]
) -> None:
    assert type(refusal("ws-a", code, status(code, message))) is error


@pytest.fixture
async def impostor() -> AsyncIterator[Session]:
    """A session on whose agent's port something else answers."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"hello": "world"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield a_session(url=str(server.make_url("/")).rstrip("/"))


async def test_what_is_not_the_agent_is_told_from_it(impostor: Session) -> None:
    async with aiohttp.ClientSession() as client:
        agents = HttpAgents(client, TICKETS, {ProviderName.CLOUD_RUN: MemoryProvider()})
        with pytest.raises(WorkspaceUnreachable, match="is not its agent"):
            await agents.boot_id(impostor)
        with pytest.raises(WorkspaceLost, match="is not its agent"):
            await agents.execute(impostor, Command("pwd"))
        with pytest.raises(WorkspaceLost, match="is not its agent"):
            await agents.freeze(impostor, 1.0)
