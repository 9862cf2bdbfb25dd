"""Client of the workspace agent: the Protocol, and HTTP behind it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from shared.agent_way import BROKEN, CONNECT_TIMEOUT_S, NOT_RUN, OK, TICKET_HEADER, Refused, Way, json_of, refusal
from shared.errors import InvalidRequest, WorkspaceLost, WorkspaceUnreachable
from shared.models import Command, Execution, ProviderName, Session
from shared.tickets import Tickets
from shared.work_folder import WorkFolder

if TYPE_CHECKING:
    from shared.providers.base import Address, Provider

HEALTH_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
EXECUTE_MARGIN_S = 15.0  # for what is not the command: sending, the agent's own grace after a timeout, a large answer
UPKEEP_TIMEOUT = aiohttp.ClientTimeout(total=30.0, sock_connect=CONNECT_TIMEOUT_S)  # freezing may take the agent 10 s
BAD_REQUEST = 400  # the agent's complaint about a command


class Agents(Protocol):
    """Speaks to the agent of a running session."""

    async def boot_id(self, session: Session) -> str:
        """Which process of the agent answers. Raises WorkspaceUnreachable after 2 s."""

    async def idle_s(self, session: Session) -> float:
        """How long nothing has happened in it: no command, no open connection, no process. As `boot_id` otherwise."""

    async def execute(self, session: Session, command: Command) -> Execution:
        """Run a command and wait for its end.

        Raises WorkspaceUnreachable or WorkspaceExhausted (nothing was run), WorkspaceLost (nobody knows if it ran),
        InvalidRequest (the agent's complaint, such as a folder that does not exist).
        """

    async def adopt(self, session: Session, agent_id: str, env: Mapping[str, str]) -> None:
        """Give a warm agent, which goes by `agent_id` until then, the session and its environment. Again is fine.

        Raises WorkspaceUnreachable, WorkspaceLost.
        """

    async def freeze(self, session: Session, lease_s: float) -> int:
        """Let all processes of the session stand still, and refuse new ones; how many there are. Again renews it.

        They go on by themselves after `lease_s` seconds. Raises WorkspaceUnreachable, WorkspaceLost.
        """

    async def thaw(self, session: Session) -> None:
        """Let them go on. Raises as `freeze`."""

    def archive(self, session: Session) -> AsyncIterator[bytes]:
        """The work folder as a tar. Raises WorkspaceUnreachable, and WorkspaceLost when it breaks off."""

    async def restore(self, session: Session, restore_id: str, tar: AsyncIterator[bytes]) -> None:
        """Put a tar in the place of what is in the work folder; once, however often a restore of this id is tried.

        Raises WorkspaceUnreachable, WorkspaceLost, WorkspaceExhausted (there is no room), and what `tar` raises: then
        it is not complete, and trying again begins anew.
        """


@dataclass(frozen=True, slots=True)
class HttpAgents:
    """The Agents over HTTP, with a ticket for each session. `client` is the caller's to close.

    `providers` know how their agents are reached.
    """

    client: aiohttp.ClientSession
    tickets: Tickets
    providers: "Mapping[ProviderName, Provider]"

    async def boot_id(self, session: Session) -> str:
        return str((await self._health(session))["boot_id"])

    async def idle_s(self, session: Session) -> float:
        return float((await self._health(session)).get("idle_s", 0.0))  # an older agent's does not say

    async def _health(self, session: Session) -> dict[str, Any]:
        address = await self._address(session)
        try:
            async with self.client.get(
                f"{address.url}/health",
                headers=address.headers,
                ssl=address.ssl or True,
                timeout=HEALTH_TIMEOUT,
                allow_redirects=False,
            ) as response:
                status, body = response.status, json_of(await response.read())
        except BROKEN as exc:
            raise WorkspaceUnreachable(f"the workspace of {session.id} does not answer: {exc!r}") from exc
        if status != OK:
            raise WorkspaceUnreachable(f"the workspace of {session.id} answered {status} to /health")
        if "boot_id" not in body:
            raise WorkspaceUnreachable(_stranger(session, "boot_id"))
        return body

    async def execute(self, session: Session, command: Command) -> Execution:
        address = await self._address(session)
        ticket = self.tickets.issue(session.id, "execute")
        request = self.client.post(
            f"{address.url}/v1/execute",
            json=_to_json(command),
            headers={**address.headers, TICKET_HEADER: ticket.token},
            ssl=address.ssl or True,
            allow_redirects=False,  # what answers may be a session's own doing
            timeout=aiohttp.ClientTimeout(total=command.timeout_s + EXECUTE_MARGIN_S, sock_connect=CONNECT_TIMEOUT_S),
        )
        try:
            async with request as response:
                status, boot_id = response.status, response.headers.get("X-Boot-Id", "")
                body = json_of(await response.read())
        except NOT_RUN as exc:
            raise WorkspaceUnreachable(f"the workspace of {session.id} does not answer: {exc!r}") from exc
        except BROKEN as exc:
            raise WorkspaceLost(
                f"the connection to the workspace of {session.id} broke while the command ran; it may have run: {exc!r}"
            ) from exc
        return _execution(session, status, body, boot_id)

    async def adopt(self, session: Session, agent_id: str, env: Mapping[str, str]) -> None:
        await self._say(session, "adopt", {"session_id": session.id, "env": dict(env)}, audience=agent_id)

    async def freeze(self, session: Session, lease_s: float) -> int:
        answer = await self._say(session, "freeze", {"lease_s": lease_s})
        if "processes" not in answer:
            raise WorkspaceLost(_stranger(session, "processes"))
        return int(answer["processes"])

    async def thaw(self, session: Session) -> None:
        await self._say(session, "thaw", {})

    async def archive(self, session: Session) -> AsyncIterator[bytes]:
        async with aclosing(WorkFolder(self.client, await self._way(session)).archive()) as pieces:
            async for piece in pieces:
                yield piece

    async def restore(self, session: Session, restore_id: str, tar: AsyncIterator[bytes]) -> None:
        boot_id = await self.boot_id(session)
        await WorkFolder(self.client, await self._way(session)).restore(restore_id, boot_id, tar)

    async def _say(
        self, session: Session, operation: str, body: Mapping[str, object], audience: str | None = None
    ) -> dict[str, Any]:
        way = await self._way(session, audience)
        try:
            async with way.asked(self.client, "POST", f"/v1/{operation}", UPKEEP_TIMEOUT, json=body) as response:
                return json_of(await response.read())
        except Refused as exc:
            raise way.refusal(exc) from exc

    async def _way(self, session: Session, audience: str | None = None) -> Way:
        """`audience`: whom the agent takes itself for, where that is not the session."""
        address = await self._address(session)
        ticket = self.tickets.issue(audience or session.id, "upkeep")
        return Way(session.id, address, {**address.headers, TICKET_HEADER: ticket.token})

    async def _address(self, session: Session) -> "Address":
        provider = self.providers.get(session.provider)
        if provider is None:
            raise WorkspaceUnreachable(f"session {session.id} is on {session.provider}, which this deployment lost")
        return await provider.address(session)


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


def _execution(session: Session, status: int, body: dict[str, Any], boot_id: str) -> Execution:
    if status == OK:
        try:
            return Execution(
                stdout=body["stdout"],
                stderr=body["stderr"],
                returncode=body["returncode"],
                timed_out=body["timed_out"],
                truncated=body["truncated"],
                duration_ms=body["duration_ms"],
                boot_id=boot_id,
            )
        except KeyError as exc:
            raise WorkspaceLost(_stranger(session, exc.args[0])) from exc
    if status == BAD_REQUEST:
        raise InvalidRequest(body.get("detail", ""), body.get("errors"))
    raise refusal(session.id, status, body)


def _stranger(session: Session, missing: str) -> str:
    """Anything that runs in a workspace may take its agent's place."""
    return f"what answers for {session.id} is not its agent: it says nothing of '{missing}'"
