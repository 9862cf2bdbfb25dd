"""A small HTTP proxy for sessions that have no network of their own: CONNECT, and plain HTTP in absolute form.

It runs on the host and listens on one Unix socket per container. It resolves names itself, refuses what
`addresses.refused` refuses, and connects to the very address it checked. Where this host only gets out through a proxy
of its own (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), requests go on to that one, which resolves the names.
"""

import asyncio
import base64
import contextlib
import ipaddress
import logging
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox import addresses
from infra.sandbox.netlink import Address

log = logging.getLogger(__name__)

HEAD_LIMIT_BYTES = 65_536
HEAD_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 30
_CHUNK = 65_536
_HOP_BY_HOP = (b"proxy-connection", b"proxy-authorization", b"connection", b"keep-alive")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Refused(Exception):
    """The request is not carried out; `status` is an HTTP status line without its version."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for. `head` is what goes to the server first: empty for CONNECT."""

    method: str
    host: str
    port: int
    head: bytes

    @property
    def tunnel(self) -> bool:
        return self.method == "CONNECT"


def parse(head: bytes) -> Request:
    """Read a request's head, which ends with its empty line. Raises Refused."""
    line, *fields = head.rstrip(b"\r\n").split(b"\r\n")
    try:
        method, target, version = line.decode("ascii").split(" ")
        if method == "CONNECT":
            url = urllib.parse.urlsplit(f"//{target}")
            path, default = "", None
        else:
            url = urllib.parse.urlsplit(target)
            path, default = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, "")), 80
        port = url.port or default
    except ValueError as exc:
        raise Refused("400 Bad Request", f"request line {line[:200]!r}") from exc
    if (url.scheme not in ("", "http")) or (not url.scheme and method != "CONNECT") or not url.hostname or not port:
        raise Refused("400 Bad Request", f"target {target[:200]!r}: wanted host:port or http://host/path")
    if method == "CONNECT":
        return Request(method, url.hostname, port, b"")
    # One request a connection: the client opens another, and no pipelined request escapes the check of its host.
    kept = [f for f in fields if f.split(b":")[0].strip().lower() not in _HOP_BY_HOP]
    lines = [f"{method} {path} {version}".encode("ascii"), *kept, b"Connection: close", b"", b""]
    return Request(method, url.hostname, port, b"\r\n".join(lines))


async def permitted(host: str, port: int) -> list[Address]:
    """The addresses of `host` that a session may reach, in the resolver's order. Raises Refused."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise Refused("502 Bad Gateway", f"{host}: the name does not resolve") from exc
    except TimeoutError as exc:
        raise Refused("504 Gateway Timeout", f"{host}: the resolver does not answer") from exc
    allowed = []
    reason = "no address"
    for entry in found:
        address = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
        reason = addresses.refused(address) or ""
        if not reason:
            allowed.append(address)
    if not allowed:
        raise Refused("403 Forbidden", f"{host}: {reason} addresses are closed to sessions")
    return allowed


@dataclass(frozen=True, slots=True)
class Upstream:
    """This host's own way out. `authorization` is a header line or empty."""

    host: str
    port: int
    authorization: bytes


def upstream(request: Request) -> Upstream | None:
    """The proxy that this process's environment names for `request`, None for a direct connection."""
    found = urllib.request.getproxies_environment()
    name = found.get("https" if request.tunnel else "http") or found.get("all")
    if not name or _bypassed(request.host, found):
        return None
    url = urllib.parse.urlsplit(name if "//" in name else f"http://{name}")
    if url.scheme != "http" or not url.hostname:
        raise Refused("502 Bad Gateway", f"this host's proxy is {url.scheme}://; only http:// is spoken here")
    authorization = b""
    if url.username is not None:
        pair = f"{urllib.parse.unquote(url.username)}:{urllib.parse.unquote(url.password or '')}"
        authorization = b"Proxy-Authorization: Basic " + base64.b64encode(pair.encode()) + b"\r\n"
    return Upstream(url.hostname, url.port or 80, authorization)


def _bypassed(host: str, proxies: dict[str, str]) -> bool:
    """NO_PROXY, as the standard library reads it."""
    return bool(urllib.request.proxy_bypass_environment(host, proxies))  # type: ignore[attr-defined]


async def connect(request: Request) -> Streams:
    """A connection on which the request's server listens, with its head already sent. Raises Refused."""
    beyond = upstream(request)
    if beyond is not None:
        return await _through(beyond, request)
    failure: Exception | None = None
    for address in await permitted(request.host, request.port):
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                streams = await asyncio.open_connection(str(address), request.port)
        except (OSError, TimeoutError) as exc:
            failure = exc
            continue
        streams[1].write(request.head)
        return streams
    raise Refused("502 Bad Gateway", f"{request.host}:{request.port}: {failure}")


async def _through(beyond: Upstream, request: Request) -> Streams:
    """Ask the next proxy, after refusing what can be seen to be closed from here: it may run on this very host."""
    try:
        await permitted(request.host, request.port)
    except Refused as exc:
        if exc.status.startswith("403"):
            raise
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(beyond.host, beyond.port, limit=HEAD_LIMIT_BYTES)
            host = f"[{request.host}]" if ":" in request.host else request.host
            if not request.tunnel:
                method, path, rest = request.head.split(b" ", 2)
                line, fields = rest.split(b"\r\n", 1)
                url = f"http://{host}:{request.port}".encode() + path
                writer.write(method + b" " + url + b" " + line + b"\r\n" + beyond.authorization + fields)
                return reader, writer
            target = f"{host}:{request.port}".encode()
            head = b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n" + beyond.authorization + b"\r\n"
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
        raise Refused("502 Bad Gateway", f"this host's proxy {beyond.host}:{beyond.port}: {exc!r}") from exc
    if answer.split(b" ", 2)[1] != b"200":
        writer.close()
        status = answer.split(b"\r\n", 1)[0].decode(errors="replace")
        raise Refused("502 Bad Gateway", f"this host's proxy answered {status}")
    return reader, writer


@asynccontextmanager
async def serve(listener: socket.socket) -> AsyncIterator[None]:
    """Answer on a bound Unix socket until the context ends; connections that are open then are cut."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_answer(reader, writer), name="egress proxy")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(accept, sock=listener, limit=HEAD_LIMIT_BYTES)
    try:
        yield
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def bind(folder: Path, name: str) -> socket.socket:
    """A Unix socket in `folder`; named through a descriptor, as the whole path may be too long for a socket."""
    listener = socket.socket(socket.AF_UNIX)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
    return listener


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError), contextlib.closing(writer):
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                request = parse(await reader.readuntil(b"\r\n\r\n"))
            streams = await connect(request)
        except Refused as exc:
            log.info("egress refused", extra={"reason": str(exc)})
            body = f"{exc}\n".encode()
            head = f"HTTP/1.1 {exc.status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
            return
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        if request.tunnel:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with contextlib.closing(streams[1]):
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, streams[1]))
                group.create_task(_copy(streams[0], writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
    except OSError:
        sink.transport.abort()
