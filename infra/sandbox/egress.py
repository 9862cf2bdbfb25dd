"""How a session gets out: a user-mode network (slirp4netns, pasta), or a proxy that needs nothing but Python.

None of them needs privileges on the host, and none reaches the host's loopback or its addresses: the two networks by
routes that the session cannot change, the proxy by what it refuses.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from infra.sandbox import addresses, netlink, proxy
from infra.sandbox.processes import Child, children, signal_process
from infra.sandbox.spec import SandboxError, SandboxUnavailable

FORWARD_PORT = 3128  # the usual port of HTTP proxies
READY_TIMEOUT_S = 5.0
_NETWORKS = ("10.0.2.0/24", "10.213.2.0/24", "172.29.213.0/24")
_NETWORK_ENVIRONMENT: Mapping[str, str] = {}
_NS_GET_USERNS = 0xB701  # man 2 ioctl_ns
_PROXY_URL = f"http://127.0.0.1:{FORWARD_PORT}"
_NO_PROXY = "localhost,127.0.0.1,::1"


class Egress(Protocol):
    """One kind of way out."""

    @property
    def kind(self) -> str: ...

    @property
    def nameserver(self) -> str | None:
        """The resolver's address inside."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What a session's commands need to know."""

    @property
    def forward_port(self) -> int:
        """Where the launcher forwards to the Unix socket egress.sock; 0 = nowhere."""

    def attach(self, pid: int, folder: Path) -> AbstractAsyncContextManager[None]:
        """Give the network namespace of `pid` a way out while the context lasts.

        `folder` is what the container sees as /run/onmemos. Raises SandboxError.
        """


class Closed:
    """No way out: nothing but the session's own loopback."""

    kind = "none"
    nameserver = None
    environment = _NETWORK_ENVIRONMENT
    forward_port = 0

    @asynccontextmanager
    async def attach(self, pid: int, folder: Path) -> AsyncIterator[None]:
        yield


class Slirp:
    """slirp4netns: TCP, UDP and DNS through a tap device and a user-mode TCP/IP stack."""

    kind = "slirp4netns"
    environment = _NETWORK_ENVIRONMENT
    forward_port = 0

    def __init__(self, program: str) -> None:
        self._program = program
        self._network = addresses.free_network(_NETWORKS)
        self.nameserver = str(self._network[3])  # the address at which slirp answers DNS

    @asynccontextmanager
    async def attach(self, pid: int, folder: Path) -> AsyncIterator[None]:
        await _loopback_is_up(pid)
        async with contextlib.AsyncExitStack() as stack:
            user, net = stack.enter_context(_namespaces(pid))
            ready, announce = _pipe(stack)
            # slirp4netns ends when the other end of this pipe is closed: also when this process is killed.
            exit_fd, _ = _pipe(stack)
            argv = (
                self._program, "--configure", "--mtu=65520", f"--cidr={self._network}", "--disable-host-loopback",
                "--enable-sandbox", "--enable-seccomp", f"--ready-fd={announce}", f"--exit-fd={exit_fd}",
                "--netns-type=path", f"--userns-path=/proc/self/fd/{user}", f"/proc/self/fd/{net}", "tap0",
            )  # fmt: skip
            child = await Child.start(argv, pass_fds=(user, net, announce, exit_fd))
            stack.push_async_callback(_end, child)
            os.set_blocking(ready, False)
            async with _routes_closed(user, net):
                await _until(lambda: _first_byte(ready) == b"1", lambda: child.ended, "slirp4netns", child)
            yield


class Pasta:
    """pasta (of passt): the same, by splicing sockets; forwards no port in either direction."""

    kind = "pasta"
    environment = _NETWORK_ENVIRONMENT
    forward_port = 0

    def __init__(self, program: str) -> None:
        self._program = program
        self._network = addresses.free_network(_NETWORKS)
        self.nameserver = str(self._network[3])

    @asynccontextmanager
    async def attach(self, pid: int, folder: Path) -> AsyncIterator[None]:
        network = self._network
        await _loopback_is_up(pid)
        async with contextlib.AsyncExitStack() as stack:
            user, net = stack.enter_context(_namespaces(pid))
            alive, _ = _pipe(stack)
            argv = (
                self._program, "--foreground", "--quiet", "--config-net", "--ipv4-only", "--no-map-gw",
                "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--mtu", "65520", "--ns-ifname", "tap0",
                "--address", str(network[100]), "--netmask", str(network.netmask), "--gateway", str(network[2]),
                "--dns-forward", self.nameserver, *(("--runas", "0") if os.geteuid() == 0 else ()),
                "--userns", f"/proc/self/fd/{user}", "--netns", f"/proc/self/fd/{net}",
            )  # fmt: skip
            # pasta loses its parent-death signal with its change of ids: a shell that sees this process's end kills it.
            guard = ("/bin/sh", "-c", '"$@" </dev/null & read -r _; kill -9 $!', "pasta", *argv)
            child = await Child.start(guard, pass_fds=(user, net), stdin=alive)
            stack.push_async_callback(_end_guarded, child)
            async with _routes_closed(user, net):
                await _until(lambda: _has_route(pid), lambda: not children(child.pid), "pasta", child)
            yield


class Proxied:
    """No network but the session's loopback: HTTP and HTTPS through this host's own proxy."""

    kind = "proxy"
    nameserver = None
    forward_port = FORWARD_PORT
    environment: Mapping[str, str] = {
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), _PROXY_URL),
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), _PROXY_URL),
        "NO_PROXY": _NO_PROXY,
        "no_proxy": _NO_PROXY,
    }

    @asynccontextmanager
    async def attach(self, pid: int, folder: Path) -> AsyncIterator[None]:
        async with proxy.serve(proxy.bind(folder, "egress.sock")):
            (folder / "egress.sock").chmod(0o600)
            yield


def candidates(choice: str) -> list[Egress]:
    """What may work here for `choice` (auto, slirp4netns, pasta, proxy, none), best first; a trial start decides.

    Where this host gets out through a proxy only, so must its sessions. Raises SandboxUnavailable for a choice that
    is unknown or not installed.
    """
    if choice == "none":
        return [Closed()]
    found: list[Egress] = []
    if choice == "auto" and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        choice = "proxy"
    if choice in ("auto", "slirp4netns") and (program := shutil.which("slirp4netns")):
        found.append(Slirp(program))
    if choice in ("auto", "pasta") and (program := shutil.which("pasta")):
        found.append(Pasta(program))
    if choice in ("auto", "proxy"):
        behind_proxy = "https" in urllib.request.getproxies_environment()
        found.insert(0 if behind_proxy else len(found), Proxied())
    if not found:
        known = "auto, slirp4netns, pasta, proxy, none"
        packages = {"slirp4netns": "slirp4netns", "pasta": "passt"}
        if choice in packages:
            raise SandboxUnavailable(f"egress {choice}: install the system's package {packages[choice]!r}")
        raise SandboxUnavailable(f"egress {choice!r}: wanted one of {known}")
    return found


@contextlib.contextmanager
def _namespaces(pid: int) -> Iterator[tuple[int, int]]:
    """Descriptors of the network namespace of `pid` and of the user namespace that owns it: (user, net)."""
    net = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        user = fcntl.ioctl(net, _NS_GET_USERNS)
        try:
            yield user, net
        finally:
            os.close(user)
    finally:
        os.close(net)


def _pipe(stack: contextlib.AsyncExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    stack.callback(os.close, read)
    stack.callback(os.close, write)
    return read, write


@asynccontextmanager
async def _routes_closed(user: int, net: int) -> AsyncIterator[None]:
    """Close the refused networks while the body runs. Raises SandboxError."""
    program = (sys.executable, "-I", "-S", netlink.__file__, str(user), str(net))
    child = await Child.start((*program, *addresses.closed_networks()), pass_fds=(user, net))
    try:
        yield
        async with asyncio.timeout(READY_TIMEOUT_S):
            await child.finish()
    except TimeoutError as exc:
        raise SandboxError("routes of a session: the kernel did not answer") from exc
    finally:
        child.kill()
        code = await child.finish()
    if code:
        raise SandboxError(f"routes of a session: {child.log_tail().strip()}")


async def _until(ready: Callable[[], bool], over: Callable[[], bool], name: str, child: Child) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_TIMEOUT_S
    while not ready():
        if over() or loop.time() > deadline:
            child.kill()
            raise SandboxError(f"{name} gave the session no network: {child.log_tail().strip()[-500:]}")
        await asyncio.sleep(0.002)


async def _loopback_is_up(pid: int) -> None:
    """Wait for bubblewrap's own set-up of `lo`, which fails when a network's helper brings `lo` up in between."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_TIMEOUT_S
    while not _has_loopback(pid):
        if loop.time() > deadline:
            raise SandboxError(f"the sandbox had no loopback after {READY_TIMEOUT_S:g} s")
        await asyncio.sleep(0.001)


def _has_loopback(pid: int) -> bool:
    try:
        return "127.0.0.1" in Path(f"/proc/{pid}/net/fib_trie").read_text()
    except OSError as exc:
        raise SandboxError("the sandbox ended before it had a network") from exc


def _first_byte(fd: int) -> bytes:
    try:
        return os.read(fd, 1)
    except BlockingIOError:
        return b""


def _has_route(pid: int) -> bool:
    """Whether the network namespace of `pid` has an IPv4 default route: the last thing that pasta sets up."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]
        return any(line.split()[1] == "00000000" and line.split()[2] != "00000000" for line in lines)
    return False


async def _end(child: Child) -> None:
    child.kill()
    await child.finish()


async def _end_guarded(guard: Child) -> None:
    for pid in children(guard.pid):
        signal_process(pid, signal.SIGKILL)
    await _end(guard)
