"""The way to a session's agent: where it is, what opens it, and what its refusals and its silence mean."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from shared.errors import OnMemOSError, WorkspaceExhausted, WorkspaceLost, WorkspaceUnreachable

if TYPE_CHECKING:
    from shared.providers.base import Address

CONNECT_TIMEOUT_S = 5.0
NOT_RUN = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
BROKEN = (aiohttp.ClientError, TimeoutError, OSError)
TICKET_HEADER = "X-OnMemOS-Ticket"  # Authorization may be the platform's
OK, NO_SPACE = 200, 507
# Nothing was done: said by the agent while its files come or go, or by what stands before it when there is none.
LATER = frozenset({WorkspaceUnreachable.code, "frozen", "restoring"})
UNREACHED, UNDIALED = "error trying to reach service: ", "dial tcp "  # of Kubernetes' proxy: what it did not pass on


class Refused(Exception):
    """The agent's answer that is not 200."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status}: {body.get('detail') or 'no reason given'}")
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Way:
    """To one session's agent; `headers` are the address's and the ticket."""

    session_id: str
    address: "Address"
    headers: Mapping[str, str]

    @asynccontextmanager
    async def asked(
        self,
        client: aiohttp.ClientSession,
        method: str,
        path: str,
        timeout: aiohttp.ClientTimeout,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, which is 200. Raises Refused; WorkspaceUnreachable, WorkspaceLost: also while it is read."""
        request = client.request(
            method,
            f"{self.address.url}{path}",
            headers={**self.headers, **(headers or {})},
            ssl=self.address.ssl or True,
            allow_redirects=False,  # what answers may be a session's own doing
            timeout=timeout,
            **options,
        )
        try:
            async with request as response:
                if response.status != OK:
                    raise Refused(response.status, json_of(await response.read()))
                yield response
        except NOT_RUN as exc:
            raise WorkspaceUnreachable(f"the workspace of {self.session_id} does not answer: {exc!r}") from exc
        except BROKEN as exc:
            raise WorkspaceLost(f"the connection to the workspace of {self.session_id} broke: {exc!r}") from exc

    def refusal(self, refused: Refused) -> OnMemOSError:
        """As what it is for the control plane."""
        return refusal(self.session_id, refused.status, refused.body)


def refusal(session_id: str, status: int, body: Mapping[str, Any]) -> OnMemOSError:
    """What an agent's answer that is neither 200 nor 400 means."""
    detail, code = str(body.get("detail", "")), body.get("code")
    if status == NO_SPACE or code == WorkspaceExhausted.code:
        return WorkspaceExhausted(detail)
    if code in LATER:
        return WorkspaceUnreachable(detail)
    if body.get("kind") == "Status" and _was_not_passed_on(str(body.get("message", ""))):
        return WorkspaceUnreachable(f"the workspace of {session_id} does not answer: {body.get('message')}")
    return WorkspaceLost(f"the workspace of {session_id} answered {status}: {detail or 'no reason given'}")


def _was_not_passed_on(message: str) -> bool:
    """Whether the API server of a cluster says this of a request that its Pod has not seen: there is none, or no way.

    A connection that broke after it was made is told in the same place, and then nobody knows.
    """
    return not message.startswith(UNREACHED) or message.removeprefix(UNREACHED).startswith(UNDIALED)


def json_of(raw: bytes) -> dict[str, Any]:
    """{} for what is no JSON object."""
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
