"""Ways into Pods: exec, attach, logs, port-forward, proxy; by the official client where it has them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest
import pytest_asyncio
from kubernetes.aio.client import CoreV1Api
from kubernetes.aio.stream import WsApiClient

from infra.emulators.kubernetes import spdy
from infra.emulators.kubernetes.portforward import TUNNEL
from tests.contract.kubernetes.node_rig import Node, container_of, waiting
from tests.contract.kubernetes.requests import SOON_S, Json, refused, soon, told
from tests.contract.kubernetes_rig import emulated

pytestmark = pytest.mark.asyncio(loop_scope="session")

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
ECHO = (
    "import socket, threading\n"
    "s = socket.create_server(('127.0.0.1', 7000))\n"
    "def serve(c):\n"
    "    while d := c.recv(65536): c.sendall(d.upper())\n"
    "    c.close()\n"
    "while True: threading.Thread(target=serve, args=s.accept()[:1]).start()\n"
)
SHOW = (
    "import http.server, json\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    protocol_version = 'HTTP/1.1'\n"
    "    def do_POST(self):\n"
    "        n = int(self.headers.get('content-length') or 0)\n"
    "        got = 0\n"
    "        while got < n: got += len(self.rfile.read(min(n - got, 65536)))\n"
    "        said = json.dumps([self.path, got, dict(self.headers)]).encode()\n"
    "        self.send_response(302 if 'moved' in self.path else 200)\n"
    "        self.send_header('content-length', str(len(said))); self.send_header('location', '/else?x=1')\n"
    "        self.end_headers(); self.wfile.write(said)\n"
    "    do_GET = do_POST\n"
    "    def log_message(self, *a): pass\n"
    "http.server.ThreadingHTTPServer(('127.0.0.1', 7001), H).serve_forever()\n"
)


@pytest_asyncio.fixture(loop_scope="session")
async def shell(node: Node) -> AsyncIterator[Node]:
    """With a Pod `pod` that does nothing."""
    await node.run("pod")
    await node.ready("pod")
    yield node
    await node.delete("pod", gracePeriodSeconds=0)


@asynccontextmanager
async def stream(
    node: Node, what: str, protocol: str = V5, name: str = "pod", **query: object
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket to a subresource; a list in the query is repeated."""
    pairs = [(k, str(v)) for k, vs in query.items() for v in (vs if isinstance(vs, list) else [vs])]
    headers = await node.cluster.credentials.headers()
    trust = aiohttp.TCPConnector(ssl=node.cluster.tls)
    async with aiohttp.ClientSession(connector=trust) as client, asyncio.timeout(SOON_S):
        url = f"{node.cluster.url}{node.namespace.path('pods', name)}/{what}"
        async with client.ws_connect(url, params=pairs, protocols=[protocol], headers=headers) as socket:
            assert socket.protocol == protocol
            yield socket


async def messages(socket: aiohttp.ClientWebSocketResponse) -> dict[int, bytes]:
    """All that is said on each channel, until the end."""
    said: dict[int, bytes] = {}
    async for message in socket:
        said[message.data[0]] = said.get(message.data[0], b"") + message.data[1:]
    assert socket.close_code == 1000
    return said


def status(said: dict[int, bytes]) -> Json:
    found: Json = json.loads(said[3])
    return found


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_a_command_has_its_streams_and_its_exit_code(shell: Node, protocol: str) -> None:
    command = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    async with stream(shell, "exec", protocol, command=command, stdout=1, stderr=1) as socket:
        first = await socket.receive_bytes()
        said = await messages(socket)
    assert first == b"\x01"
    assert (said[1], said[2]) == (b"out\n", b"err\n")
    told = status(said)
    assert (told["status"], told["reason"]) == ("Failure", "NonZeroExitCode")
    assert told["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


async def test_success_is_said(shell: Node) -> None:
    async with stream(shell, "exec", command=["true"], stdout=1) as socket:
        assert status(await messages(socket)) == {"metadata": {}, "status": "Success"}


async def test_input_ends_where_the_protocol_can_say_so(shell: Node) -> None:
    data = bytes(range(256)) * 2000
    async with stream(shell, "exec", command=["cat"], stdin=1, stdout=1) as socket:
        await socket.send_bytes(b"\x00" + data)
        await socket.send_str("\x00text")
        await socket.send_bytes(b"\xff\x00")
        said = await messages(socket)
    assert said[1] == data + b"text"
    assert status(said)["status"] == "Success"


async def test_a_terminal_is_one(shell: Node) -> None:
    async with stream(shell, "exec", command=["sh"], stdin=1, stdout=1, tty=1) as socket:
        await socket.send_bytes(b"\x04" + json.dumps({"Width": 132, "Height": 50}).encode())
        await socket.send_bytes(b"\x00stty size; exit 3\n")
        said = await messages(socket)
    assert b"50 132\r\n" in said[1]
    assert status(said)["details"]["causes"][0]["message"] == "3"


async def test_a_missing_command_is_an_internal_error(shell: Node) -> None:
    async with stream(shell, "exec", command=["nosuch"], stdout=1) as socket:
        told = status(await messages(socket))
    assert (told["reason"], told["code"]) == ("InternalError", 500)
    assert 'exec: "nosuch": executable file not found in $PATH' in told["message"]


async def test_a_command_goes_on_without_its_client(shell: Node) -> None:
    script = "echo up; sleep 0.2; echo done > /tmp/done"
    async with stream(shell, "exec", command=["sh", "-c", script], stdout=1) as socket:
        while await socket.receive_bytes() != b"\x01up\n":
            pass
    script = "until [ -e /tmp/done ]; do sleep 0.02; done; cat /tmp/done"
    async with stream(shell, "exec", command=["sh", "-c", script], stdout=1) as socket:
        assert (await messages(socket))[1] == b"done\n"


async def test_the_official_client_runs_commands(shell: Node) -> None:
    configuration = shell.cluster.api.configuration
    async with WsApiClient(configuration) as client:  # type: ignore[no-untyped-call]
        client.rest_client.ssl_context = shell.cluster.api.rest_client.ssl_context
        call = CoreV1Api(client).connect_get_namespaced_pod_exec(
            "pod", shell.namespace.name, command=["sh", "-c", "echo $((6 * 7))"], stdout=True, stderr=True
        )
        assert await call == "42"


@emulated("it speaks no SPDY but in a tunnel")
async def test_spdy_is_refused_in_words(shell: Node) -> None:
    path = f"{shell.namespace.path('pods', 'pod')}/exec"
    upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    answer = await shell.cluster.http.post(path, params={"command": "true", "stdout": "1"}, headers=upgrade)
    assert "SPDY/3.1 is not spoken here" in refused(answer, 400, "BadRequest")["message"]


@emulated("a real server asks the node first, and tells what that said in the stream")
async def test_a_command_without_streams_is_refused(shell: Node) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        async with stream(shell, "exec", command="true"):
            pass
    assert raised.value.status == 400


async def test_refusals_before_the_stream(shell: Node) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        async with stream(shell, "exec", command="true", stdout=1, container="none"):
            pass
    assert raised.value.status == 400
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        async with stream(shell, "exec", name="none", command="true", stdout=1):
            pass
    assert raised.value.status == 404


NO_REGISTRY = emulated("no registry is asked for images that are not there")


@NO_REGISTRY
async def test_a_container_that_does_not_run_has_no_exec(node: Node) -> None:
    await node.run("none", container={"image": "x:missing"})
    await node.until("none", lambda pod: waiting(pod))
    async with stream(node, "exec", name="none", command="true", stdout=1) as socket:
        told = status(await messages(socket))
    assert told["message"] == 'unable to upgrade connection: container not found ("main")'
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        async with stream(node, "exec", V4, name="none", command="true", stdout=1):
            pass
    assert raised.value.status == 500
    await node.delete("none")


async def test_whoever_attaches_types_for_the_command(node: Node) -> None:
    container = {"stdin": True, "stdinOnce": True}
    await node.run("typed", "while read x; do echo got $x; done; exit 4", container=container, restartPolicy="Never")
    await node.ready("typed")
    async with stream(node, "attach", name="typed", stdin=1, stdout=1) as socket:
        await socket.send_bytes(b"\x00line\n")
        while await socket.receive_bytes() != b"\x01got line\n":
            pass
        await socket.send_bytes(b"\xff\x00")
        assert status(await messages(socket))["status"] == "Success"
    assert container_of(await node.ended("typed"))["state"]["terminated"]["exitCode"] == 4


async def test_a_terminals_log_is_whole(node: Node) -> None:
    await node.run("terminal", "seq 20000; tty; exit 3", container={"tty": True}, restartPolicy="Never")
    assert container_of(await node.ended("terminal"))["state"]["terminated"]["exitCode"] == 3
    assert (await node.log("terminal")).split() == [*map(str, range(1, 20_001)), "/dev/pts/0"]


async def test_logs_are_followed_cut_and_dated(node: Node) -> None:
    script = "seq 3; echo oops >&2; touch /tmp/said; until [ -e /tmp/go ]; do sleep 0.02; done; echo last"
    said = {"readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/said"]}}}
    await node.run("talks", script, container=said, restartPolicy="Never")
    await node.ready("talks")
    path = f"{node.namespace.path('pods', 'talks')}/log"
    async with node.cluster.http.stream("GET", path, params={"follow": "true", "tailLines": "2"}) as answer:
        lines = answer.aiter_lines()
        async with asyncio.timeout(SOON_S):
            first = [await anext(lines), await anext(lines)]
            async with stream(node, "exec", name="talks", command=["touch", "/tmp/go"], stdout=1) as socket:
                await messages(socket)
            rest = [line async for line in lines]
    assert (sorted([*first, *rest])) == ["3", "last", "oops"]
    await node.ended("talks")
    if node.cluster.is_emulated:  # elsewhere behind a feature gate
        assert await node.log("talks", stream="Stderr") == "oops\n"
    assert await node.log("talks", limitBytes="3") == "1\n2"
    assert await node.log("talks", tailLines="0") == ""
    moment, _, line = (await node.log("talks", tailLines="1", timestamps="true")).partition(" ")
    assert line == "last\n"
    since = await node.log("talks", sinceTime=moment)
    assert since.endswith("last\n")
    if node.cluster.is_emulated:  # elsewhere it is cut to its second
        assert since == "last\n"
    answer = await node.cluster.http.get(path, params={"previous": "true"})
    assert refused(answer, 400, "BadRequest")["message"] == (
        'previous terminated container "main" in pod "talks" not found'
    )


@NO_REGISTRY
async def test_a_log_that_is_not_there_yet_is_refused(node: Node) -> None:
    await node.run("none", container={"image": "x:missing"})
    await node.until("none", lambda pod: waiting(pod).get("reason") == "ErrImagePull")
    answer = await node.cluster.http.get(f"{node.namespace.path('pods', 'none')}/log")
    assert refused(answer, 400, "BadRequest")["message"] == (
        'container "main" in pod "none" is waiting to start: image can\'t be pulled'
    )
    await node.delete("none")


@pytest_asyncio.fixture(loop_scope="session")
async def servers(node: Node) -> AsyncIterator[Node]:
    """With a Pod `pod` that listens at 7000 and 7001."""
    probe = {"tcpSocket": {"port": 7001}, "periodSeconds": 1}
    script = f"import threading\nthreading.Thread(target=exec, args=({ECHO!r}, {{}})).start()\n{SHOW}"
    command = ["python3", "-c", script]
    container = {"command": command, "readinessProbe": probe, "ports": [{"name": "web", "containerPort": 7001}]}
    await node.run("pod", container=container)
    await node.ready("pod")
    yield node
    await node.delete("pod", gracePeriodSeconds=0)


async def test_ports_are_forwarded_over_channels(servers: Node) -> None:
    async with stream(servers, "portforward", V4, ports=["7000", "7009"]) as socket:
        opening = [await socket.receive_bytes() for _ in range(4)]
        assert opening == [
            bytes((channel,)) + port.to_bytes(2, "little") for channel, port in enumerate((7000, 7000, 7009, 7009))
        ]
        failure = await socket.receive_bytes()
        assert failure[0] == 3
        assert b"connection refused" in failure
        await socket.send_bytes(b"\x00hello")
        assert await socket.receive_bytes() == b"\x00HELLO"


async def test_ports_are_forwarded_as_kubectl_tunnels_them(servers: Node) -> None:
    ours = spdy.Connection()
    said: dict[int, bytes] = {}
    ended: set[int] = set()
    async with stream(servers, "portforward", TUNNEL) as socket:
        for request, port in enumerate(("7000", "7009")):
            for offset, kind in enumerate(("error", "data")):
                headers = {"streamType": kind, "port": port, "requestID": str(request)}
                await socket.send_bytes(ours.open(4 * request + 2 * offset + 1, headers, ended=kind == "error"))
        await socket.send_bytes(spdy.data(3, b"a" * 100_000) + spdy.data(3, b"b", ended=True))
        while len(ended) < 4:
            for event in ours.receive(await socket.receive_bytes()):
                if isinstance(event, spdy.Data):
                    said[event.stream] = said.get(event.stream, b"") + event.data
                    ended |= {event.stream} if event.ended else set()
    assert said[3] == b"A" * 100_000 + b"B"
    assert said[1] == b""
    assert b"connection refused" in said[5]


@pytest.mark.parametrize("path", ["/a/b/", pytest.param("/a%2Fb/", marks=emulated("it passes paths as they come"))])
async def test_the_proxy_passes_requests_as_they_are_but_for_what_is_the_servers(servers: Node, path: str) -> None:
    http, prefix = servers.cluster.http, f"{servers.namespace.path('pods', 'http:pod:web')}/proxy"
    answer = await http.post(f"{prefix}{path}?q=%20x", content=b"x" * 3_000_000, headers={"X-Own": "1"})
    seen, size, headers = told_list(answer)
    lowered = {name.lower(): value for name, value in headers.items()}
    assert (seen, size, lowered["x-own"]) == (f"{path}?q=%20x", 3_000_000, "1")
    assert "authorization" not in lowered
    assert lowered["x-forwarded-uri"] == f"{prefix}{path}"
    assert lowered["x-forwarded-host"] == lowered["host"]
    moved = await http.get(f"{prefix}/moved")
    assert moved.headers["location"] == f"{prefix}/else?x=1"
    bare = await http.get(prefix)
    assert (bare.status_code, bare.headers["location"]) == (301, f"{prefix}/")


def told_list(answer: httpx.Response) -> list[Any]:
    found: list[Any] = answer.json()
    return found


async def test_a_port_where_nothing_listens_is_unavailable(servers: Node) -> None:
    answer = await servers.cluster.http.get(f"{servers.namespace.path('pods', 'pod:7009')}/proxy/")
    ip = (await servers.namespace.get("pods", "pod"))["status"]["podIP"]
    message = refused(answer, 503, "ServiceUnavailable")["message"]
    assert message.startswith("error trying to reach service: ")
    if servers.cluster.is_emulated:  # elsewhere a proxy on the way may say it
        assert message == f"error trying to reach service: dial tcp {ip}:7009: connect: connection refused"


async def test_a_service_leads_to_its_pods(servers: Node) -> None:
    labels = {"metadata": {"labels": {"app": "web"}}}
    told(await servers.namespace.patch("pods", "pod", labels))
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    await servers.namespace.create("services", service)
    http, proxy = servers.cluster.http, f"{servers.namespace.path('services', 'web:http')}/proxy/x"
    answer = await soon(lambda: http.get(proxy), lambda answer: answer.status_code == httpx.codes.OK)
    assert told_list(answer)[0] == "/x"
    told(await servers.namespace.patch("pods", "pod", {"metadata": {"labels": {"app": "other"}}}))
    bare = f"{servers.namespace.path('services', 'web')}/proxy/x"
    answer = await soon(lambda: http.get(bare), lambda answer: answer.status_code != httpx.codes.OK)
    assert refused(answer, 503, "ServiceUnavailable")["message"] == 'no endpoints available for service "web"'
