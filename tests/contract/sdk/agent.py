"""A small workspace agent: commands in a list, a shell that knows some words, a terminal that echoes."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PREFIX = "/run/ws"
RAN = {"stdout": "hi\n" * 1000, "stderr": "", "returncode": 0, "success": True}


@dataclass(slots=True)
class Agent:
    """`tickets`: those that open it. `seen`: what it was asked with, newest last. `waits`: a shell runs `wait`.

    `is_frozen`: its session is being suspended or moved, and nothing is begun.
    """

    tickets: set[str] = field(default_factory=set)
    commands: list[str] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    waits: threading.Event = field(default_factory=threading.Event)
    is_frozen: bool = False

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route(f"{PREFIX}/v1/execute", self.execute, methods=["POST"]),
                WebSocketRoute(f"{PREFIX}/v1/shell", self.shell),
                WebSocketRoute(f"{PREFIX}/v1/terminal", self.terminal),
            ]
        )

    async def execute(self, request: Request) -> Response:
        self.seen.append(dict(request.headers))
        if self._ticket(request) not in self.tickets:
            return JSONResponse({"detail": "the ticket is not valid", "code": "bad_ticket"}, 401)
        if self.is_frozen:
            return JSONResponse({"detail": "the session is frozen", "code": "frozen"}, 503)
        command = (await request.json())["command"]
        if command == "bad":
            body = {"detail": "command: bad", "code": "bad_request", "errors": {"command": ["bad"]}}
            return JSONResponse(body, 400)
        self.commands.append(command)
        return JSONResponse({**RAN, "stderr": "agent"})

    async def shell(self, socket: WebSocket) -> None:
        await self._served(socket, partial(shell, waits=self.waits))

    async def terminal(self, socket: WebSocket) -> None:
        await self._served(socket, terminal)

    async def _served(self, socket: WebSocket, serve: Callable[..., Any]) -> None:
        self.seen.append(dict(socket.headers))
        if self.is_frozen:
            body = {"detail": "the session is frozen", "code": "frozen"}
            await socket.send_denial_response(JSONResponse(body, 503))
            return
        await socket.accept()
        if self._ticket(socket) not in self.tickets:
            await socket.close(4401, "the ticket is not valid")
        else:
            await serve(socket, self.commands)

    def _ticket(self, connection: HTTPConnection) -> str:
        return connection.headers.get("authorization", "").removeprefix("Bearer ")


async def shell(socket: WebSocket, commands: list[str], waits: threading.Event | None = None) -> None:
    """Knows `cd X`, `pwd`, `exit N`; what it does not know prints itself.

    `print N` prints so many x, `close N` closes with this code, `wait` waits for an interrupt.
    """
    cwd, waiting = "/workspace", ""
    await socket.send_json({"type": "welcome", "session_id": "ws", "boot_id": "b", "shell": "sh", "cwd": cwd})
    async for text in _texts(socket):
        frame = json.loads(text)
        if frame["type"] == "ping":
            await socket.send_json({"type": "pong"})
            continue
        if frame["type"] == "interrupt":
            result = {"stdout": "", "stderr": "", "returncode": 130, "success": False, "cwd": cwd}
            await socket.send_json({"type": "command_result", "id": waiting, **result})
            continue
        command = frame.get("command")
        if not command:
            await socket.send_json({"type": "error", "detail": 'command: got ""', "id": frame.get("id")})
            continue
        commands.append(command)
        word, _, argument = command.partition(" ")
        if word == "wait" and waits is not None:
            waiting = frame["id"]
            waits.set()
            continue
        if word == "close":
            await socket.send_json({"type": "status", "status": "deleted"})
            await socket.close(int(argument), "as told")
            return
        cwd = argument if word == "cd" else cwd
        number = int(argument) if word in {"exit", "print"} else 0
        returncode = number if word == "exit" else 0
        printed = {"cd": "", "pwd": f"{cwd}\n", "exit": "", "print": "x" * number}.get(word, command)
        result = {"stdout": printed, "stderr": "", "returncode": returncode, "success": returncode == 0, "cwd": cwd}
        await socket.send_json({"type": "command_result", "id": frame["id"], **result})
        if word == "exit":
            await socket.send_json({"type": "status", "status": "exited"})
            await socket.close()
            return


async def terminal(socket: WebSocket, commands: list[str]) -> None:
    """Shows its size, echoes bytes; after `exit` it says 3 and ends."""
    query = socket.query_params
    await socket.send_bytes(f"{query['rows']}x{query['cols']}$ ".encode())
    while (message := await socket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            size = json.loads(message["text"])
            await socket.send_bytes(f"{size['rows']}x{size['cols']}$ ".encode())
        elif message["bytes"] == b"exit\n":
            await socket.send_json({"type": "exit", "returncode": 3})
            await socket.close()
            return
        else:
            commands.append(message["bytes"].decode())
            await socket.send_bytes(message["bytes"])


async def _texts(socket: WebSocket) -> Any:
    try:
        while True:
            yield await socket.receive_text()
    except WebSocketDisconnect:
        return
