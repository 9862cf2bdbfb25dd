"""A session for the length of a `with`: deleted at its end, however that comes."""

import signal
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import NotFound, OnMemOSError
from ..shapes import SessionDict
from .complaints import complain, sentence
from .progress import waiting

if TYPE_CHECKING:
    from ..client import OnMemOSClient

ENDING_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def temporary_session(client: "OnMemOSClient", spec: Mapping[str, Any], *, keep: bool) -> Iterator[SessionDict]:
    """A new session, deleted on leaving unless it is to be kept; Ctrl-C and SIGTERM leave too.

    An interrupted creation is asked for again by its idempotency key, which tells what has to be deleted.
    """
    with signals_raise():
        idempotency_key = uuid.uuid4().hex
        try:
            with waiting(f"creating a {spec['template']} session"):
                session = client.create_session(spec, idempotency_key=idempotency_key)
        except (KeyboardInterrupt, SystemExit):
            with waiting("stopping"):
                session = client.create_session(spec, wait=0, idempotency_key=idempotency_key)
                _delete(client, session)
            raise
        try:
            yield session
        finally:
            if keep:
                complain(f"{session['id']} is kept; onmemos sessions rm {session['id']} deletes it")
            else:
                with waiting(f"deleting {session['id']}"):
                    _delete(client, session)


def _delete(client: "OnMemOSClient", session: SessionDict) -> None:
    try:
        client.delete_session(session["id"])
    except NotFound:
        return  # its time was up, or somebody else was faster
    except (OnMemOSError, KeyboardInterrupt, SystemExit) as exc:
        why = sentence(exc) if isinstance(exc, OnMemOSError) else "interrupted"
        until = f", until {session['expires_at']} at the latest" if session["expires_at"] else ""
        complain(f"{session['id']} may still be there{until}: {why}")
        if not isinstance(exc, OnMemOSError):
            raise


@contextmanager
def signals_raise() -> Iterator[None]:
    """What would end the process at once ends it through the `finally`s instead."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
