"""The gateway and the functions in one process: `python -m infra.local.serve`, started by the stack.

The stack binds the two ports and passes them on. It sends one line of JSON, the functions' environment, when everything
that they need is up; until then this process loads. It prints a line when it answers, and ends on SIGTERM, or when its
standard input ends.
"""

import argparse
import asyncio
import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

import main as _  # noqa: F401  # fills the tables of shared.http
from functions.relay import app as relay
from infra.local.calls import Functions
from infra.local.functions_host import FunctionsHost
from infra.local.gateway import Gateway
from infra.local.queues import ensure_queues
from infra.local.workspaces import Workspaces
from infra.local.workstations import ensure_workstations
from shared.callers import Caller
from shared.http import FUNCTIONS, ROUTES
from shared.models import SessionFilter
from shared.websocket_server import SERVER
from shared.wiring import Services, services

KEEP_ALIVE_S = 610  # Google's front ends': cloud.google.com/load-balancing/docs/https/#timeout-keepalive-client
NO_WEBSOCKETS = {"ws": "none"}  # as functions-framework
POOLED = "python"  # the template that a warm pool is made for
STOP_GRACE_S = 1  # for requests that are being answered

# What the functions import at their first use: here while the emulators start.
LOADED_AHEAD = (
    "kubernetes.aio.client",
    "shared.agent",
    "shared.buckets",
    "shared.cloud_tasks",
    "shared.providers.cloud_run",
    "shared.providers.gke",
    "shared.providers.workstations",
    "shared.store",
)


class Server(uvicorn.Server):
    """One of several servers on a loop: signals are the program's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_no_refused_handshake(record: logging.LogRecord) -> bool:
    """uvicorn 0.54 takes a handshake that was refused with a status for one that was forgotten, and complains."""
    return record.msg != "ASGI callable returned without completing handshake."


def server(app: Any, websockets: Mapping[str, Any] = SERVER) -> Server:
    config = uvicorn.Config(
        app,
        http="httptools",
        **websockets,
        lifespan="off",
        access_log=False,  # the functions log each of their calls
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_GRACE_S,
    )
    return Server(config)


async def warm(app: Services) -> None:
    """Load the clients and open their connections, so that the first session doesn't wait for that."""
    nobody = Caller(tenant="-", key_id="", scopes=frozenset())
    async with asyncio.TaskGroup() as group:
        group.create_task(app.sessions.list(nobody, SessionFilter(), 1, None))
        group.create_task(_first(app.buckets.session_ids()))
        group.create_task(_first(app.tasks.pending()))
        for provider in app.providers.values():
            group.create_task(_first(provider.session_ids()))


async def _ensure_warm_pool(app: Services) -> None:
    settings = app.settings
    if settings.gke_warm_pool:  # imported by those who use it only
        from infra.local.warm_pools import ensure_warm_pool

        template = app.templates.find(POOLED)
        await ensure_warm_pool(settings.gke_kubeconfig, settings.gke_warm_pool, template, app.tickets.public_keys())


async def _first(items: Any) -> None:
    async with contextlib.aclosing(items):
        async for _ in items:
            return


async def run(gateway: socket.socket, functions_host: socket.socket, sockets: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    threading.Thread(target=_wait_for_end_of_stdin, args=(loop, stop), name="stdin", daemon=True).start()
    app = services()
    calls = Functions(FUNCTIONS, ROUTES)
    workspaces = Workspaces(sockets)
    servers = {
        gateway: server(Gateway(ROUTES.values(), calls, workspaces, relay)),
        functions_host: server(FunctionsHost(calls), NO_WEBSOCKETS),
    }
    try:
        async with workspaces, asyncio.TaskGroup() as group:
            for listener, each in servers.items():
                group.create_task(each.serve(sockets=[listener]))
            settings = app.settings
            parent = f"projects/{settings.project}/locations/{settings.location}"
            await asyncio.gather(
                ensure_queues(settings.tasks_host, parent, settings.queue),
                _ensure_warm_pool(app),
                ensure_workstations(
                    settings.workstations_host,
                    settings.workstations_cluster,
                    settings.workstations_config,
                    app.templates,
                ),
            )
            await warm(app)
            gc.freeze()  # what was loaded stays: the collector need not look through it again and again
            sys.stdout.write('{"ready": true}\n')
            sys.stdout.flush()
            await stop.wait()
            for each in servers.values():
                each.should_exit = True
    finally:
        await app.close()


def _take_environment() -> bool:
    """Wait for the line that holds the environment; False: the stack ended instead."""
    line = b""
    while not line.endswith(b"\n"):
        read = os.read(sys.stdin.fileno(), 1 << 16)
        if not read:
            return False
        line += read
    os.environ.update(json.loads(line))
    return True


def _wait_for_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """In a thread: an event loop cannot watch every kind of file that may be the standard input."""
    while os.read(sys.stdin.fileno(), 4096):  # not sys.stdin: its lock would be held at the interpreter's end
        pass
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(stop.set)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.local.serve", description=__doc__)
    parser.add_argument("--gateway-fd", type=int, required=True, help="descriptor of the gateway's listening socket")
    parser.add_argument("--functions-fd", type=int, required=True, help="descriptor of the functions' listening socket")
    parser.add_argument("--sockets", type=Path, required=True, help="folder of the workspaces' Unix sockets")
    options = parser.parse_args()
    logging.getLogger("uvicorn.error").addFilter(_is_no_refused_handshake)
    for module in LOADED_AHEAD:
        importlib.import_module(module)
    listeners = (socket.socket(fileno=options.gateway_fd), socket.socket(fileno=options.functions_fd))
    if _take_environment():
        uvloop.run(run(*listeners, options.sockets))


if __name__ == "__main__":
    main()
