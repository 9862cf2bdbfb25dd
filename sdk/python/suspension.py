"""Where a session is: suspended, running again, or on another provider."""

from typing import Any

from .calls import Calls
from .faces import operation
from .paths import SERVICE_WAIT_S, given, path_to
from .shapes import SessionDict


class SuspensionOperations(Calls):
    """Each call waits up to `wait` seconds, 30 if not given and 0 for not at all, and gives the session as it is then.

    What could not be done leaves the session as it was, and `details["notice"]` says why.
    """

    @operation
    async def suspend_session(self, session_id: str, *, wait: float | None = None) -> SessionDict:
        """Let the session rest: its files are kept, its processes end, its TTL stands still, and little is paid.

        `suspended`, or `suspending` when `wait` was too short. One that is suspended is given as it is.
        Raises NotFound, Conflict (the session's state does not allow it).
        """
        return await self._turned(session_id, "suspend", wait)

    @operation
    async def resume_session(self, session_id: str, *, wait: float | None = None) -> SessionDict:
        """Start a suspended session again, with its files, where it was.

        `running`, or `provisioning` when `wait` was too short. One that runs is given as it is.
        Raises NotFound, Conflict (the session's state does not allow it).
        """
        return await self._turned(session_id, "resume", wait)

    @operation
    async def move_session(self, session_id: str, provider: str, *, wait: float | None = None) -> SessionDict:
        """Take the session to another provider: cloud_run, gke or workstations. Id and files stay, processes end.

        `running` there, or `moving` when `wait` was too short; `running` where it was, untouched, when the new place
        did not come to be. Raises NotFound, BadRequest (that provider cannot have it), Conflict.
        """
        return await self._turned(session_id, "move", wait, {"provider": provider})

    async def _turned(
        self, session_id: str, action: str, wait: float | None, body: dict[str, Any] | None = None
    ) -> SessionDict:
        try:
            return await self._link.call(
                SessionDict,
                "POST",
                path_to("sessions", action, session_id=session_id),
                json=body,
                query=given(wait=wait),
                idempotent=True,
                takes_s=2 * (SERVICE_WAIT_S if wait is None else wait),  # first for what is under way, then for this
            )
        finally:
            if self._direct is not None:
                self._direct.forget(session_id)  # afterwards its agent is another one, elsewhere
