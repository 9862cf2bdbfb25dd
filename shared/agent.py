"""Client of the workspace agent: the Protocol, and HTTP behind it."""

from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from shared.errors import InvalidRequest, WorkspaceExhausted, WorkspaceLost, WorkspaceUnreachable
from shared.models import Command, Execution, Session
from shared.tickets import Tickets

CONNECT_TIMEOUT_S = 5.0
HEALTH_TIMEOUT_S = 2.0
EXECUTE_MARGIN_S = 15.0  # for what is not the command: sending, the agent's own grace after a timeout, a large answer
NOT_RUN = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Agents(Protocol):
    """Speaks to the agent of a running session."""

    async def boot_id(self, session: Session) -> str:
        """Which process of the agent answers. Raises WorkspaceUnreachable after 2 s."""

    async def execute(self, session: Session, command: Command) -> Execution:
        """Run a command and wait for its end.

        Raises WorkspaceUnreachable or WorkspaceExhausted (nothing was run), WorkspaceLost (nobody knows if it ran),
        InvalidRequest (the agent's complaint, such as a folder that does not exist).
        """


@dataclass(frozen=True, slots=True)
class HttpAgents:
    """The Agents over HTTP, with a ticket for each session. `client` is the caller's to close."""

    client: httpx.AsyncClient
    tickets: Tickets

    async def boot_id(self, session: Session) -> str:
        try:
            response = await self.client.get(f"{session.url}/health", timeout=HEALTH_TIMEOUT_S)
        except httpx.HTTPError as exc:
            raise WorkspaceUnreachable(f"the workspace of {session.id} does not answer: {exc!r}") from exc
        if response.status_code != httpx.codes.OK:
            raise WorkspaceUnreachable(f"the workspace of {session.id} answered {response.status_code} to /health")
        return str(response.json()["boot_id"])

    async def execute(self, session: Session, command: Command) -> Execution:
        ticket = self.tickets.issue(session.id, "execute")
        try:
            response = await self.client.post(
                f"{session.url}/v1/execute",
                json=_to_json(command),
                headers={"Authorization": f"Bearer {ticket.token}"},
                timeout=httpx.Timeout(command.timeout_s + EXECUTE_MARGIN_S, connect=CONNECT_TIMEOUT_S),
            )
        except NOT_RUN as exc:
            raise WorkspaceUnreachable(f"the workspace of {session.id} does not answer: {exc!r}") from exc
        except httpx.HTTPError as exc:
            raise WorkspaceLost(
                f"the connection to the workspace of {session.id} broke while the command ran; it may have run: {exc!r}"
            ) from exc
        return _execution(session, response)


def _to_json(command: Command) -> dict[str, Any]:
    fields = {
        "command": command.line,
        "argv": command.argv,
        "timeout": command.timeout_s,
        "stdin": command.stdin,
        "cwd": command.cwd,
        "env": dict(command.env) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _execution(session: Session, response: httpx.Response) -> Execution:
    body = _json(response)
    if response.status_code == httpx.codes.OK:
        return Execution(
            stdout=body["stdout"],
            stderr=body["stderr"],
            returncode=body["returncode"],
            timed_out=body["timed_out"],
            truncated=body["truncated"],
            duration_ms=body["duration_ms"],
            boot_id=response.headers["X-Boot-Id"],
        )
    detail, code = body.get("detail", ""), body.get("code")
    if response.status_code == httpx.codes.BAD_REQUEST:
        raise InvalidRequest(detail, body.get("errors"))
    if code == WorkspaceExhausted.code:
        raise WorkspaceExhausted(detail)
    if code == WorkspaceUnreachable.code:  # said by what stands before the agent, when there was no agent to pass it to
        raise WorkspaceUnreachable(detail)
    raise WorkspaceLost(f"the workspace of {session.id} answered {response.status_code}: {detail or 'no reason given'}")


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
