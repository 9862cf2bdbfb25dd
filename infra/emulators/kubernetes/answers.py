"""Answers over ASGI: JSON or YAML bodies, streams of JSON lines, refusals."""

import json
from collections.abc import Iterable
from typing import Any

import yaml
from starlette.types import Scope, Send

from infra.emulators.kubernetes.requests import JSON, YAML
from infra.emulators.kubernetes.statuses import PageNotFound, StatusError


def encoded(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


async def answer(send: Send, status: int, body: Any, *, media_type: str = JSON, warnings: Iterable[str] = ()) -> None:
    content = yaml.safe_dump(body).encode() if media_type == YAML else encoded(body)
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(content)).encode())]
    headers += [(b"cache-control", b"no-cache, private")]
    headers += [(b"warning", f"299 - {json.dumps(warning)}".encode()) for warning in warnings]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def text(send: Send, status: int, content: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content.encode()})


async def refuse(scope: Scope, send: Send, refusal: StatusError) -> None:
    """Also in place of a WebSocket's handshake."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    plain = isinstance(refusal, PageNotFound)
    content = refusal.message.encode() if plain else encoded(refusal.body())
    media_type = b"text/plain; charset=utf-8" if plain else JSON.encode()
    headers = [(b"content-type", media_type), (b"content-length", str(len(content)).encode())]
    await send({"type": f"{kind}.start", "status": refusal.code, "headers": headers})
    await send({"type": f"{kind}.body", "body": content})


def success(details: dict[str, Any], code: int | None = None) -> dict[str, Any]:
    """The Status of what was done and has no object to show."""
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    status["details"] = {key: value for key, value in details.items() if value}
    return {**status, "code": code} if code else status
