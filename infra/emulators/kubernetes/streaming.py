"""exec and attach: a command in a container, or its own, with its streams on a WebSocket's channels."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from infra.emulators.kubernetes import channels
from infra.emulators.kubernetes.channels import STDERR, STDIN, STDOUT, Channels, Departed
from infra.emulators.kubernetes.container_life import ContainerLife
from infra.emulators.kubernetes.kubelet import Kubelet
from infra.emulators.kubernetes.objects import Object
from infra.emulators.kubernetes.pod_containers import chosen
from infra.emulators.kubernetes.podlogs import LogFile
from infra.emulators.kubernetes.statuses import BadRequest, InternalError, StatusError
from infra.sandbox.attendance import Exited, NotStarted, Typing, Unattended, Window, attach, execute
from infra.sandbox.spec import Container
from shared.passage import first

OFFERED = (channels.V5, channels.V4)
OVER = ("Succeeded", "Failed")
_Act = Callable[[Channels, "Wanted", ContainerLife, Container], Awaitable[dict[str, object]]]


class Upgraded(StatusError):
    """What the kubelet says instead of a stream."""

    code, reason = 500, "InternalError"

    def __init__(self, why: str) -> None:
        super().__init__(f"unable to upgrade connection: {why}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """PodExecOptions, PodAttachOptions."""

    command: tuple[str, ...]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool
    container: str

    @classmethod
    def of(cls, scope: Scope) -> "Wanted":
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)

        def flag(name: str) -> bool:
            return query.get(name, [""])[0] in ("true", "1", "True", "t", "T", "TRUE")

        return cls(
            command=tuple(query.get("command", ())),
            stdin=flag("stdin"),
            stdout=flag("stdout"),
            stderr=flag("stderr"),
            tty=flag("tty"),
            container=query.get("container", [""])[0],
        )


class Streaming:
    """Handlers for `pods/exec` and `pods/attach`."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def exec(self, scope: Scope, receive: Receive, send: Send, namespace: str, name: str, pod: Object) -> None:
        wanted = Wanted.of(scope)
        if not wanted.command:
            raise BadRequest("you must specify at least one command for the container")
        await self._stream(scope, receive, send, pod, wanted, _execute)

    async def attach(self, scope: Scope, receive: Receive, send: Send, namespace: str, name: str, pod: Object) -> None:
        await self._stream(scope, receive, send, pod, Wanted.of(scope), _attach)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, pod: Object, wanted: Wanted, act: _Act) -> None:
        if not (wanted.stdin or wanted.stdout or wanted.stderr):
            raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
        phase = (pod.get("status") or {}).get("phase")
        if phase in OVER:
            raise BadRequest(f"cannot exec into a container in a completed pod; current phase is {phase}")
        container = chosen(pod, wanted.container)
        if not pod["spec"].get("nodeName"):
            raise BadRequest(f"pod {pod['metadata']['name']} does not have a host assigned")
        protocol = channels.agreed(scope, OFFERED)
        life = self._kubelet.life(pod, container)
        sandbox = life.sandbox if life else None
        missing = Upgraded(f'container not found ("{container}")')
        if (life is None or sandbox is None) and protocol == channels.V4:
            raise missing  # the API server speaks v5 itself, and passes v4 on to the kubelet
        stream = await channels.accepted(scope, receive, send, OFFERED)
        try:
            if life is None or sandbox is None:
                raise missing
            status = await act(stream, wanted, life, sandbox)
        except Departed:
            await stream.end()
            return
        except StatusError as exc:
            status = channels.failure(exc)
        try:
            await stream.close(status)
        except Departed:
            return


async def _execute(stream: Channels, wanted: Wanted, life: ContainerLife, sandbox: Container) -> dict[str, object]:
    """The Status at its end. Raises Departed, StatusError."""
    await _greet(stream, wanted)
    terminal = Window(24, 80) if wanted.tty else None
    async with AsyncExitStack() as stack:
        try:
            command = await stack.enter_async_context(execute(sandbox.attendant, wanted.command, terminal=terminal))

            async def output() -> int:
                while not isinstance(got := await command.next(), Exited):
                    if (got.stream == STDOUT and wanted.stdout) or (got.stream == STDERR and wanted.stderr):
                        await stream.write(got.stream, got.data)
                return got.code

            code = await first(output(), _input(stream, wanted, command, once=True), stream.departure())
        except NotStarted as exc:
            raise InternalError(f"error executing command in container: {_told(exc, wanted)}") from exc
        except Unattended as exc:
            raise InternalError(f"error executing command in container: {exc}") from exc
    return channels.exit_status(code)


async def _attach(stream: Channels, wanted: Wanted, life: ContainerLife, sandbox: Container) -> dict[str, object]:
    container = life.container
    log = life.log
    if log is None:
        raise Upgraded(f'container not found ("{life.name}")')
    if wanted.tty and not container.get("tty"):
        raise BadRequest(f"Unable to use a TTY - container {life.name} did not allocate one")
    await _greet(stream, wanted)
    async with AsyncExitStack() as stack:
        works = [_follow(stream, wanted, log), stream.departure()]
        if wanted.stdin and container.get("stdin"):
            typing = await stack.enter_async_context(attach(sandbox.attendant))
            works.append(_input(stream, wanted, typing, once=bool(container.get("stdinOnce"))))
        else:
            works.append(_ignored(stream))
        try:
            await first(*works)
        finally:
            if wanted.stdin and container.get("stdinOnce"):
                await _ended(sandbox)
    return channels.SUCCESS


async def _ended(sandbox: Container) -> None:
    """The only one who could type has gone."""
    try:
        async with asyncio.timeout(1), attach(sandbox.attendant) as typing:
            await typing.end()
    except (Unattended, TimeoutError):
        return


async def _follow(stream: Channels, wanted: Wanted, log: LogFile) -> int:
    follower = log.follow()
    try:
        while (got := await follower.next()) is not None:
            name, data = got
            channel = STDOUT if name == "stdout" else STDERR
            if wanted.stdout if channel == STDOUT else wanted.stderr:
                await stream.write(channel, data)
    finally:
        log.leave(follower)
    return 0


async def _input(stream: Channels, wanted: Wanted, typing: Typing, *, once: bool) -> int:
    """What the client types, until it goes."""
    open_ = wanted.stdin
    while True:
        channel, data = await stream.read()
        try:
            if channel == STDIN and open_ and data:
                await typing.write(data)
            elif channel == channels.RESIZE:
                await _resize(typing, data)
            elif channel == channels.CLOSE and stream.protocol == channels.V5 and data[:1] == b"\0" and open_:
                open_ = False
                if once:
                    await typing.end()
        except Unattended:
            open_ = False  # its end is the other task's to tell


async def _ignored(stream: Channels) -> int:
    while True:
        await stream.read()


async def _resize(typing: Typing, data: bytes) -> None:
    try:
        size = json.loads(data)
        await typing.resize(Window(int(size["Height"]), int(size["Width"])))
    except (ValueError, KeyError, TypeError):
        return


async def _greet(stream: Channels, wanted: Wanted) -> None:
    """An empty message says that the streams are there."""
    await stream.write(STDOUT if wanted.stdout else STDERR if wanted.stderr else channels.ERROR, b"")


def _told(exc: NotStarted, wanted: Wanted) -> str:
    """In the words of containerd and runc."""
    word, why = wanted.command[0], str(exc).rsplit(": ", 1)[-1]
    if "/" not in word and why == "no such file or directory":
        why = "executable file not found in $PATH"
    elif why == "no such file or directory":
        why = f"stat {word}: {why}"
    oci = f'OCI runtime exec failed: exec failed: unable to start container process: exec: "{word}": {why}: unknown'
    return f'failed to exec in container: failed to start exec "{secrets.token_hex(32)}": {oci}'
