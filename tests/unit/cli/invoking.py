"""`onmemos`, called as from a shell, with a service that plays a script."""

from collections.abc import Sequence
from typing import Any, cast

from click.testing import CliRunner, Result

from sdk.python.cli.root import root
from sdk.python.client import OnMemOSClient
from tests.unit.sdk.scripted import ScriptedClient, Turn

SESSION: dict[str, Any] = {
    "id": "ws-demo-me-1",
    "provider": "cloud_run",
    "namespace": "demo",
    "user": "me",
    "status": "running",
    "url": "http://agent",
    "websocket": "/v1/cloudrun/workspaces/ws-demo-me-1/shell",
    "ssh": False,
    "details": {"service_name": "onmemos-ws-demo-me-1", "reason": "it starts soonest"},
    "template": "python",
    "labels": {"team": "core"},
    "created_at": "2026-11-25T10:00:00.000Z",
    "expires_at": "2999-11-25T11:00:00.000Z",
}
NO_SETTINGS = {"ONMEMOS_URL": "", "ONMEMOS_API_KEY": "", "ONMEMOS_NAMESPACE": "", "LOGNAME": "me"}


class Called:
    """What one call came to: the process' side in `result`, the service's in `requests`."""

    def __init__(self, result: Result, client: ScriptedClient) -> None:
        self.code = result.exit_code
        self.stdout, self.stderr = result.stdout, result.stderr
        self.stdout_bytes = result.stdout_bytes
        self.requests = [
            (request.method, request.url.removeprefix("http://service")) for request in client.transport.requests
        ]
        self.bodies = [request.json for request in client.transport.requests]
        self.queries = [dict(request.query) for request in client.transport.requests]
        self.closed = client.transport.closed


def onmemos(
    *words: str, turns: Sequence[Turn] = (), stdin: str | bytes | None = None, env: dict[str, str] | None = None
) -> Called:
    """Call it. What it raises that is no exit is raised here too."""
    client = ScriptedClient(*turns)
    result = CliRunner().invoke(
        root,
        list(words),
        obj=lambda _: cast("OnMemOSClient", client),
        input=stdin,
        env={**NO_SETTINGS, **(env or {})},
        prog_name="onmemos",
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Called(result, client)
