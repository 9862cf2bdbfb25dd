"""The pieces of a request to the service."""

from typing import Any
from urllib.parse import quote

SERVICE_WAIT_S = 30.0  # how long the service waits for a new session to run when `wait` is not given
# How long execute may wait there before the command starts: 60 s to come to rest, as of a session that is just being
# suspended, 60 s to run (again), 60 s to be reached.
SERVICE_START_S = 180.0


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
