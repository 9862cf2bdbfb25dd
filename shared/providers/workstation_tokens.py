"""Access tokens of workstations, each used until shortly before it expires, and asked for once however many wait."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions

from shared.cloud import unavailable
from shared.errors import WorkspaceUnreachable

if TYPE_CHECKING:
    from google.cloud.workstations_v1 import WorkstationsAsyncClient

LIFETIME = timedelta(hours=1)  # a token cannot be revoked, so none of the 24 hours that there could be
MARGIN = timedelta(minutes=5)  # a token is replaced that long before its end: for clocks that differ, and the way there
KEPT = 10_000  # tokens; the oldest are forgotten first


def utc_now() -> datetime:
    """Now, aware."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and when it stops being one."""

    text: str
    expires_at: datetime


class WorkstationTokens:
    """`calls` are options of every call, such as its timeout."""

    def __init__(
        self,
        client: "Callable[[], WorkstationsAsyncClient]",
        calls: dict[str, Any],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._client = client
        self._calls = calls
        self._clock = clock
        self._asked: dict[tuple[str, str], asyncio.Task[Token]] = {}

    async def of(self, workstation: str, uid: str) -> str:
        """The token of the workstation that has this name and this uid: one made anew has the name, and other tokens.

        Raises WorkspaceUnreachable: there is no such workstation; ProviderUnavailable.
        """
        key = (workstation, uid)
        asked = self._asked.get(key)
        if asked is None or self._is_spent(asked):
            asked = asyncio.create_task(self._generate(workstation), name=f"access token of {workstation}")
            asked.add_done_callback(lambda task: task.cancelled() or task.exception())  # who waited may have gone
            self._asked.pop(key, None)
            self._asked[key] = asked
            if len(self._asked) > KEPT:
                del self._asked[next(iter(self._asked))]
        token = asked.result() if asked.done() else await asyncio.shield(asked)
        return token.text

    def _is_spent(self, asked: asyncio.Task[Token]) -> bool:
        if not asked.done():
            return False
        if asked.cancelled() or asked.exception():
            return True
        return asked.result().expires_at - self._clock() <= MARGIN

    async def _generate(self, workstation: str) -> Token:
        try:
            answer = await self._client().generate_access_token(
                {"workstation": workstation, "ttl": LIFETIME}, **self._calls
            )
        except exceptions.NotFound as exc:
            raise WorkspaceUnreachable(f"there is no workstation {workstation}") from exc
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Workstations", exc) from exc
        return Token(answer.access_token, answer.expire_time)
