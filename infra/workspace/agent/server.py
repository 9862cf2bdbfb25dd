"""The running agent: its socket, its signals, uvicorn; SIGTERM and SIGINT end the commands and then the process."""

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server

from . import logs
from .app import App
from .children import Children
from .commands import GRACE_S, KILL_S, Commands
from .conversations import Conversations
from .exchange import Checks
from .freezer import Freezer
from .gate import Gate
from .identity import Identity
from .idle import Activity, newcomers
from .settings import Settings
from .upkeep import Upkeep

log = logging.getLogger(__name__)

# Longer than any client keeps an idle connection (Google's front ends: 600 s), so that it is never the server that
# closes one just as the next command is on its way.
KEEP_ALIVE_S = 620
STOP_S = int(GRACE_S + KILL_S) + 1  # for the answers of the commands that a stop has ended; Cloud Run gives 10 s
MAX_FRAME_BYTES = 1_048_576
CANNOT_SERVE = 1


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    logs.to_stderr()
    try:
        Path("/proc/self/stat").read_bytes()  # without /proc a command's family could not be found, nor ended
        with _listening(settings) as listener:
            asyncio.run(_serve(settings, listener))
    except OSError as exc:
        log.error("cannot serve", extra={"error": str(exc), "socket": settings.socket, "port": settings.port})
        return CANNOT_SERVE
    return 0


class _Server(Server):
    """uvicorn that leaves the signals to us: its own handling would end the process by the signal, not by exit 0."""

    def __init__(self, config: Config, on_listening: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()


class _Verifier:
    """The ticket check, loaded in a thread while the server already answers /health."""

    def __init__(self, settings: Settings, identity: Identity) -> None:
        self._settings = settings
        self._identity = identity
        self._started_at = time.time()
        self._loading: asyncio.Future[Checks] | None = None

    async def __call__(self) -> Checks:
        return await self.load()

    def load(self) -> asyncio.Future[Checks]:
        if self._loading is None:
            self._loading = asyncio.get_running_loop().run_in_executor(None, self._load)
        return self._loading

    def _load(self) -> Checks:
        from .tickets import Tickets

        tickets = Tickets(
            self._settings.session_id, self._settings.ticket_keys, clock=time.time, started_at=self._started_at
        )
        tickets.readdress(self._identity.session_id)  # an adoption that was remembered
        gc.collect()
        gc.freeze()  # modules live for ever: no collection need look at them again
        return tickets


def _websocket(**arguments: Any) -> asyncio.Protocol:
    """For uvicorn: the protocol of one WebSocket."""
    from .websocket import Protocol

    return Protocol(**arguments)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    gate, others = Gate(), newcomers()
    identity = Identity(settings.session_id, settings.environment, settings.state)
    freezer = Freezer(gate, others)
    activity = Activity(lambda: any(True for _ in others()))
    with Children(settings.workdir, gate) as children:
        commands = Commands(children, identity.environment, settings.output_limit_bytes)
        verifier = _Verifier(settings, identity)
        boot_id = os.urandom(16).hex()
        conversations = Conversations(identity, boot_id, children)
        upkeep = Upkeep(verifier, identity, gate, freezer, settings.workdir, settings.awaits_files_s)
        config = Config(
            App(boot_id, verifier, commands, conversations, upkeep, activity),
            loop="none",
            http="httptools",
            ws=_websocket,  # type: ignore[arg-type]  # called, never looked at
            ws_max_size=MAX_FRAME_BYTES,
            ws_ping_timeout=None,  # a client that we do not read from for a while is not dead: its pong waits
            ws_per_message_deflate=False,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
        )
        server = _Server(config, verifier.load)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        log.info("agent serves", extra={"session_id": settings.session_id, "boot_id": boot_id})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            await stop.wait()
            log.info("agent stops")
            await freezer.thaw()  # who stands still cannot end
            conversations.stop()
            server.should_exit = True
            await commands.stop()


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """A bound socket; a Unix socket of a predecessor is replaced, and ours removed at the end."""
    if settings.socket is None:
        with socket.create_server(("", settings.port or 0)) as listener:
            # Connections inherit it. asyncio sets it only on sockets whose proto says TCP, and an answer in two pieces
            # then waits 40 ms for the other side's delayed acknowledgement.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield listener
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path = Path(settings.socket)
        path.unlink(missing_ok=True)
        listener.bind(settings.socket)
        path.chmod(0o666)  # the gateway may be another user; the socket's folder says who comes near
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
