"""A session reaches the world as far as its network is open, and never the machine it runs on."""

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.sandbox import addresses, netlink, proxy
from tests.contract.sandbox.conftest import Lab, opened, until

KINDS = ("slirp4netns", "pasta", "proxy")


@pytest.fixture(params=KINDS)
async def networked(request: pytest.FixtureRequest, short_folder: Path) -> AsyncIterator[Lab]:
    async with opened(short_folder, egress_kind=request.param) as lab:
        yield lab


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Something that every address of this host answers on."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server


def own_address() -> str:
    for address in sorted(map(str, netlink.host_addresses())):
        if ":" not in address and not address.startswith("127."):
            return address
    pytest.skip("this machine has no address but loopback")


async def test_a_package_is_installed_from_the_index(networked: Lab) -> None:
    result = await networked.run(
        "pip install -q --no-cache-dir six && python -c 'import six; print(six.__name__)'", egress=True
    )
    if result.code and "No matching distribution" in result.output:
        pytest.skip("no package index can be reached from this machine")
    assert result.output.strip().endswith("six"), result.output
    assert result.container.facts["egress"] in KINDS


async def test_the_host_itself_is_not_reached(networked: Lab, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    gateway = ("10.0.2.2", "10.213.2.2", "172.29.213.2")
    hosts = ("127.0.0.1", "localhost", own_address(), "0.0.0.0", "169.254.169.254", *gateway)
    tries = "".join(f"curl -sS -m 0.4 -o /dev/null -x '' http://{h}:{port}/ && echo reached {h}; " for h in hosts)
    # Once more through whatever proxy the session was given.
    tries += "".join(f"curl -sf -m 1 --noproxy '' -o /dev/null http://{h}:{port}/ && echo reached {h}; " for h in hosts)
    listener.setblocking(False)
    result = await networked.run(f"({tries}) 2>/dev/null; true", egress=True)
    assert "reached" not in result.output
    with pytest.raises(BlockingIOError):
        listener.accept()


async def test_the_routes_to_the_host_cannot_be_opened_from_inside(networked: Lab) -> None:
    result = await networked.run(
        f"ip route add {own_address()} dev tap0 2>/dev/null && echo opened; ip route flush type prohibit 2>/dev/null;"
        f" ip route show type prohibit | grep -c {own_address()};"
        " ip route add 203.0.113.9 dev lo 2>/dev/null && echo opened; true",
        egress=True,
    )
    assert "opened" not in result.output
    if result.container.facts["egress"] != "proxy":
        assert result.output == "1\n"


async def test_another_session_is_not_reached(networked: Lab) -> None:
    server = (
        "import socket; s = socket.create_server(('0.0.0.0', 7777)); open('ready', 'w'); s.accept(); print('visited')"
    )
    first = await networked.start(f'exec python3 -c "{server}"', name="first", egress=True)
    await until((networked.state / "first/workspace/ready").exists)
    hosts = ("10.0.2.100", "10.0.2.15", "127.0.0.1", own_address())
    tries = "; ".join(f"curl -s -m 0.5 http://{h}:7777/" for h in hosts)
    await networked.run(f"{tries}; true", name="second", egress=True)
    await first.stop(grace_s=0)
    assert "visited" not in first.log_tail()


async def test_a_closed_network_is_closed(networked: Lab) -> None:
    script = "env | grep -i _proxy; ls /run/onmemos; ip -o link | wc -l; ip route;"
    script += " curl -s -m 2 http://1.1.1.1/ && echo out; true"
    result = await networked.run(script, egress=False)
    assert result.output == "1\n"
    assert result.container.facts["egress"] == "none"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "255.255.255.255", "::1", "::",
        "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
        "::127.0.0.1",
    ],
)  # fmt: skip
def test_an_address_of_the_host_is_refused_however_it_is_written(address: str) -> None:
    assert addresses.refused(ipaddress.ip_address(address))


def test_every_address_of_every_interface_is_refused() -> None:
    own = netlink.host_addresses()
    assert ipaddress.ip_address("127.0.0.1") in own
    assert all(addresses.refused(a) for a in own)


@pytest.mark.parametrize("address", ["203.0.113.7", "8.8.8.8", "10.255.7.7", "2606:4700::1111"])
def test_the_world_and_private_networks_are_not_refused(address: str) -> None:
    assert addresses.refused(ipaddress.ip_address(address)) is None


@asynccontextmanager
async def proxied(folder: Path) -> AsyncIterator[Callable[[bytes], Awaitable[bytes]]]:
    """`ask(bytes)`: what the proxy answers to them on one connection."""
    async with proxy.serve(proxy.bind(folder, "p")):

        async def ask(request: bytes) -> bytes:
            reader, writer = await asyncio.open_unix_connection(str(folder / "p"))
            with contextlib.closing(writer):
                writer.write(request)
                async with asyncio.timeout(5):
                    return await reader.read()

        yield ask


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT localhost:22 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT [::1]:22 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT [::ffff:127.0.0.1]:22 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT 0x7f.1:22 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT 2130706433:22 HTTP/1.1\r\n\r\n", b"403"),
        (b"GET http://169.254.169.254/computeMetadata/v1/ HTTP/1.1\r\nHost: x\r\n\r\n", b"403"),
        (b"CONNECT name.invalid:443 HTTP/1.1\r\n\r\n", b"502"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET ftp://x/ HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT x:99999 HTTP/1.1\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
async def test_the_proxy_refuses(short_folder: Path, request_: bytes, status: bytes) -> None:
    async with proxied(short_folder) as ask:
        assert (await ask(request_)).split(b" ")[1] == status


@pytest.mark.usefixtures("no_proxies")
async def test_the_proxy_carries_both_kinds_of_request(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Towards a server on loopback, which only here counts as the world."""
    monkeypatch.setattr(addresses, "refused", lambda address: None)
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, proxied(short_folder) as ask:
        plain = (
            f"GET http://127.0.0.1:{port}/a?b=c HTTP/1.1\r\nHost: h\r\nProxy-Connection: keep-alive\r\n\r\n".encode()
        )
        assert (await ask(plain)).endswith(b"\r\n\r\nhi")
        tunnel = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nGET /raw HTTP/1.1\r\n\r\n".encode()
        assert (await ask(tunnel)).startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK")
        monkeypatch.setenv("HTTP_PROXY", f"http://user:p%20w@127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        assert (await ask(b"GET http://elsewhere.invalid/x HTTP/1.1\r\nHost: h\r\n\r\n")).endswith(b"hi")
    assert heads[0] == b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert heads[1] == b"GET /raw HTTP/1.1\r\n\r\n"
    assert heads[2].startswith(
        b"GET http://elsewhere.invalid:80/x HTTP/1.1\r\nProxy-Authorization: Basic dXNlcjpwIHc=\r\n"
    )
