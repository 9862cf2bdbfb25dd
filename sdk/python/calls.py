"""What all operations are made of: the link, and the direct way beside it."""

import uuid
from collections.abc import Mapping
from typing import Any

from .direct import Direct
from .errors import NotFound
from .link import Link
from .paths import SERVICE_WAIT_S, given
from .shapes import DeletedDict, SessionDict


class Calls:
    """The base of every group of operations. `direct`: None where every call is to go through the service."""

    def __init__(self, link: Link, direct: Direct | None = None) -> None:
        self._link = link
        self._direct = direct

    async def _create(
        self, path: str, spec: Mapping[str, Any], wait: float | None, idempotency_key: str | None
    ) -> SessionDict:
        """A session of this spec, made at this path: one, however often the call is repeated."""
        return await self._link.call(
            SessionDict,
            "POST",
            path,
            json=spec,
            query=given(wait=wait),
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
            idempotent=True,
            takes_s=SERVICE_WAIT_S if wait is None else wait,
        )

    async def _delete(self, session_id: str, path: str) -> DeletedDict:
        """Delete the session that is at this path."""
        try:
            return await self._link.call(DeletedDict, "DELETE", path, idempotent=True)
        except NotFound as exc:
            if any(failure.may_have_executed for failure in exc.earlier):
                return {"id": session_id, "status": "deleting"}  # by the try whose answer was lost
            raise
        finally:
            if self._direct is not None:
                self._direct.forget(session_id)
