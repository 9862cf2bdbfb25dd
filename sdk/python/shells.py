"""A shell in a session: its state (folder, variables, functions) lasts from command to command."""

import json
import uuid
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, cast

from .errors import BadRequest, InvalidResponse
from .faces import AsyncContext, BlockingContext, fact, operation
from .lines import Line
from .paths import given
from .shapes import ShellResultDict, WelcomeDict

MAX_COMMAND_S = 3600.0  # what a command may take that is given no timeout
ENVELOPE = frozenset({"type", "id"})  # of a result


class ShellFace:
    """What both faces of a shell can do."""

    def __init__(
        self, line: Line, welcome: WelcomeDict, lock: AbstractAsyncContextManager[None], patience_s: float
    ) -> None:
        self._line = line
        self._welcome = welcome
        self._cwd = welcome["cwd"]
        self._lock = lock
        self._patience_s = patience_s
        self._restarts = 0
        self._closed = False

    @fact
    def welcome(self) -> WelcomeDict:
        """What the shell said when it opened: session_id, boot_id, shell, cwd."""
        return self._welcome

    @fact
    def cwd(self) -> str:
        """The folder that the shell was in after its last command."""
        return self._cwd

    @fact
    def restarts(self) -> int:
        """How often the shell was started anew, without its state, because a command could not be ended otherwise.

        The answer that comes after it brings the news.
        """
        return self._restarts

    @operation
    async def execute(self, command: str, timeout: float | None = None) -> ShellResultDict:
        """Run a command line in the shell and return what it did, as execute_session does; `cwd` is where it led.

        One at a time: while a command runs, others wait for it. `timeout`: seconds, 3600 if not given and at most;
        past it the command is ended, and the result has `timed_out`. Its stdin is empty. It runs on when its caller
        leaves, by cancellation for example; `interrupt` ends it.

        Raises BadRequest (no such command can be sent), SessionEnded, ShellExited, and ConnectionLost: it may have run.
        """
        sent = given(type="command", command=command, timeout=timeout, id=uuid.uuid4().hex)
        within_s = (MAX_COMMAND_S if timeout is None else timeout) + self._patience_s
        async with self._lock:
            await self._send(sent)
            while True:
                frame = await self._receive(within_s)
                if frame.get("id", sent["id"]) != sent["id"]:
                    continue  # of a command whose caller no longer waits
                if frame["type"] == "error":
                    raise BadRequest(400, str(frame.get("detail")), "invalid_request")
                if frame["type"] == "command_result":
                    result = {name: value for name, value in frame.items() if name not in ENVELOPE}
                    self._cwd = result.setdefault("cwd", self._cwd)
                    return cast("ShellResultDict", result)

    @operation
    async def interrupt(self) -> None:
        """Interrupt the command that runs, as Ctrl-C does; whoever waits for it gets its result, returncode 130."""
        await self._send({"type": "interrupt"})

    @operation
    async def ping(self) -> None:
        """Ask for a sign of life. Raises what execute raises when there is none."""
        async with self._lock:
            await self._send({"type": "ping"})
            while (await self._receive(self._patience_s))["type"] != "pong":
                pass

    @operation
    async def close(self) -> None:
        """End the shell and what it runs. Idempotent."""
        self._closed = True
        await self._line.close()

    async def _leave(self, exc: BaseException | None) -> None:
        await self.close()

    async def _send(self, frame: Mapping[str, Any]) -> None:
        if self._closed:
            raise RuntimeError("the shell is closed")
        await self._line.send(json.dumps(frame))

    async def _receive(self, within_s: float) -> dict[str, Any]:
        frame = frame_of(await self._line.receive(within_s))
        if (frame["type"], frame.get("status")) == ("status", "restarted"):
            self._restarts += 1
        return frame


class AsyncShell(ShellFace, AsyncContext):
    """A shell whose calls are awaited.

    async with await client.open_shell(session["id"]) as shell:
        await shell.execute("cd /tmp")
        print((await shell.execute("pwd"))["stdout"])
    """

    @classmethod
    async def greeted(
        cls, line: Line, within_s: float, *, lock: AbstractAsyncContextManager[None], patience_s: float
    ) -> Self:
        """The shell at the other end, once it has said welcome. Raises the typed form of a refusal."""
        frame = frame_of(await line.receive(within_s))
        if frame["type"] != "welcome" or not isinstance(frame.get("cwd"), str):
            raise InvalidResponse(f"what answers is no shell: its first frame is of type {frame['type']!r}")
        return cls(line, cast("WelcomeDict", frame), lock, patience_s)


class Shell(BlockingContext, ShellFace):
    """A shell whose calls block; it may be shared between threads.

    with client.open_shell(session["id"]) as shell:
        shell.execute("cd /tmp")
        print(shell.execute("pwd")["stdout"])
    """


def frame_of(message: str | bytes) -> dict[str, Any]:
    """The object in a text message. Raises InvalidResponse."""
    try:
        frame = json.loads(message)
    except ValueError:
        frame = None
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise InvalidResponse(f"a frame without a type came from the shell: {message[:80]!r}")
    return frame
