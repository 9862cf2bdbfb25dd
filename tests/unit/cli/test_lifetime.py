"""A session for the length of a `with`: what interrupts it, and when."""

import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pytest

from sdk.python.cli.lifetime import signals_raise, temporary_session
from sdk.python.errors import ConnectError
from tests.unit.cli.invoking import SESSION

if TYPE_CHECKING:
    from sdk.python.client import OnMemOSClient

SPEC = {"template": "python"}


class Service:
    """Makes one session for each idempotency key. `interruptions`: what the calls raise once they are carried out."""

    def __init__(self, *interruptions: BaseException | None) -> None:
        self._interruptions = list(interruptions)
        self.made: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []

    def create_session(
        self, spec: Mapping[str, Any], *, wait: float | None = None, idempotency_key: str
    ) -> dict[str, Any]:
        session = self.made.setdefault(idempotency_key, {**SESSION, "id": f"ws-{len(self.made)}"})
        self._interrupt()
        return session

    def delete_session(self, session_id: str) -> None:
        self._interrupt()
        self.deleted.append(session_id)

    def _interrupt(self) -> None:
        if self._interruptions and (interruption := self._interruptions.pop(0)):
            raise interruption


def lived(service: Service, *, keep: bool = False, within: BaseException | None = None) -> None:
    with temporary_session(cast("OnMemOSClient", service), SPEC, keep=keep):
        if within:
            raise within


def test_it_is_deleted_at_the_end() -> None:
    service = Service()
    lived(service)
    assert service.deleted == ["ws-0"]


@pytest.mark.parametrize("keep", [False, True])
def test_an_interrupted_creation_leaves_nothing_behind(keep: bool) -> None:
    service = Service(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        lived(service, keep=keep)
    assert (len(service.made), service.deleted) == (1, ["ws-0"])


def test_ctrl_c_while_the_command_runs_deletes_it() -> None:
    service = Service()
    with pytest.raises(KeyboardInterrupt):
        lived(service, within=KeyboardInterrupt())
    assert service.deleted == ["ws-0"]


def test_what_is_to_be_kept_is_kept_also_then(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service()
    with pytest.raises(KeyboardInterrupt):
        lived(service, keep=True, within=KeyboardInterrupt())
    assert service.deleted == []
    assert "ws-0 is kept" in capsys.readouterr().err


def test_a_second_ctrl_c_says_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(None, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        lived(service, within=KeyboardInterrupt())
    assert capsys.readouterr().err.startswith("onmemos: ws-0 may still be there")


def test_a_creation_that_cannot_be_asked_after_is_the_error() -> None:
    with pytest.raises(ConnectError):
        lived(Service(KeyboardInterrupt(), ConnectError("gone")))


def test_sigterm_leaves_through_the_end() -> None:
    service = Service()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, temporary_session(cast("OnMemOSClient", service), SPEC, keep=False):
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM
    assert service.deleted == ["ws-0"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with signals_raise():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
