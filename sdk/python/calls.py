"""What all operations are made of: the link, and the pieces of a request."""

from typing import Any
from urllib.parse import quote

from .errors import NotFound
from .link import Link
from .shapes import DeletedDict

SERVICE_WAIT_S = 30.0  # how long the service waits for a new session to run when `wait` is not given
SERVICE_START_S = 120.0  # how long execute may wait there before the command starts: 60 s to run, 60 s to be reached


class Calls:
    """The base of every group of operations."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def _delete(self, session_id: str, path: str) -> DeletedDict:
        try:
            return await self._link.call(DeletedDict, "DELETE", path, idempotent=True)
        except NotFound as exc:
            if any(failure.may_have_executed for failure in exc.earlier):
                return {"id": session_id, "status": "deleting"}  # by the try whose answer was lost
            raise


def path_to(collection: str, action: str = "", **ids: str) -> str:
    """The path of one thing, as in `path_to("sessions", "execute", session_id=...)`.

    Raises TypeError, ValueError: the id is none; they name it.
    """
    ((name, value),) = ids.items()
    if not isinstance(value, str):
        raise TypeError(f"{name}: got a {type(value).__name__}, wanted a string such as session['id']")
    if value in {"", ".", ".."}:  # these would address another resource
        raise ValueError(f"{name}: got {value!r}, wanted an id")
    return f"/v1/{collection}/{quote(value, safe='')}{'/' if action else ''}{action}"


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
