"""What all operations are made of: the link, and the direct way beside it."""

from .direct import Direct
from .errors import NotFound
from .link import Link
from .shapes import DeletedDict


class Calls:
    """The base of every group of operations. `direct`: None where every call is to go through the service."""

    def __init__(self, link: Link, direct: Direct | None = None) -> None:
        self._link = link
        self._direct = direct

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
