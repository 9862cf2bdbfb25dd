"""The emulators' process: Cloud Run, Cloud Tasks, Workstations, Operations, Firestore on one gRPC port; token keys, and
the workstations' hosts, on an HTTP port each.

With --storage-server it also stands in front of fake-gcs-server, so that what sessions write in a bucket is an object
at once. An NFS share is a folder, <state>/filestore/<server>/<share>: made when it is first mounted, and kept.

The Kubernetes API is served over TLS, which kubectl wants; --kubeconfig is written before the line below.

Prints one line of JSON when it is ready, {"grpc": "127.0.0.1:PORT", "http": …, "workstations": …, "kubernetes": …},
and ends when it gets SIGTERM or SIGINT, or when its standard input ends: with the process that holds the other end of
the pipe.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from infra.emulators.buckets.front import Front
from infra.emulators.jsonlog import JsonFormatter
from infra.emulators.jwks import HttpServer, JwksServer
from infra.emulators.kubernetes import Kubernetes
from infra.emulators.kubernetes.node import AUTOSCALED
from infra.emulators.oidc import OidcTokens
from infra.emulators.operations import Operations
from infra.emulators.run.cloud_run import SERVICES_PER_REGION, CloudRun
from infra.emulators.run.specs import Folders
from infra.emulators.tasks import CloudTasks
from infra.emulators.workstations.front import SERVER as HOSTS_SERVER
from infra.emulators.workstations.front import Front as WorkstationsFront
from infra.emulators.workstations.service import WORKSTATIONS_PER_REGION, Workstations
from infra.sandbox.runtime import open_runtime
from infra.sandbox.spec import SandboxUnavailable

HOST = "127.0.0.1"
PORT_TAKEN = 2  # exit codes
NO_SANDBOX = 3
STOP_GRACE_S = 0.5  # for calls that are being answered
# Firestore's commits are up to 10 MiB, gRPC's own limit is 4: firebase.google.com/docs/firestore/quotas
LARGEST_MESSAGE_BYTES = 16 * 2**20

log = logging.getLogger("infra.emulators")


class PortTakenError(Exception):
    """The message names the port and the option that chooses another."""


@dataclass(frozen=True, slots=True)
class Options:
    """Ports of 0 stand for any free one."""

    state: Path
    sockets: Path
    buckets: Path
    gateway_url: str
    grpc_port: int
    http_port: int
    sandbox: str
    egress: str
    firestore: bool
    firestore_indexes: Path | None
    services_per_region: int
    storage_port: int
    storage_server: str
    workstations_port: int
    workstations_per_region: int
    kubernetes_port: int
    kubeconfig: Path | None
    agent_sandbox: bool


def parse(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m infra.emulators", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--state",
        type=Path,
        required=True,
        help="folder of the emulators' files; an NFS share is filestore/SERVER/SHARE in it, made when first mounted",
    )
    parser.add_argument("--sockets", type=Path, required=True, help="folder of the sandboxes' Unix sockets; short")
    parser.add_argument("--buckets", type=Path, required=True, help="folder whose subfolders are the buckets")
    parser.add_argument("--gateway-url", default="http://localhost:8080", help="where services are reached")
    parser.add_argument("--grpc-port", type=int, default=0, help="0: any free one")
    parser.add_argument("--http-port", type=int, default=0, help="0: any free one")
    parser.add_argument("--sandbox", choices=["auto", "bubblewrap", "gvisor", "docker"], default="auto")
    parser.add_argument(
        "--egress",
        choices=["auto", "slirp4netns", "pasta", "proxy", "none"],
        default="auto",
        help="how sessions reach the internet",
    )
    parser.add_argument("--firestore", action="store_true", help="serve Firestore too")
    parser.add_argument(
        "--firestore-indexes",
        type=Path,
        help="firestore.indexes.json; queries that its indexes do not serve are refused, as in production",
    )
    parser.add_argument(
        "--services-per-region", type=int, default=SERVICES_PER_REGION, help="quota of Cloud Run services"
    )
    parser.add_argument("--storage-port", type=int, default=0, help="of Cloud Storage; 0: any free one")
    parser.add_argument("--storage-server", default="", help="URL of the fake-gcs-server that serves --buckets")
    parser.add_argument("--workstations-port", type=int, default=0, help="of the workstations' hosts; 0: any free one")
    parser.add_argument(
        "--workstations-per-region", type=int, default=WORKSTATIONS_PER_REGION, help="quota of workstations"
    )
    parser.add_argument("--kubernetes-port", type=int, default=0, help="of the Kubernetes API, TLS; 0: any free one")
    parser.add_argument(
        "--kubeconfig", type=Path, help="where to write what kubectl and clients need (default: STATE/kubeconfig)"
    )
    parser.add_argument("--agent-sandbox", action="store_true", help="the cluster has Agent Sandbox")
    return Options(**vars(parser.parse_args(arguments)))


async def serve(options: Options, stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises PortTakenError, SandboxUnavailable."""
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(options.http_port, "--http-port"))
        served = bool(options.storage_server)
        storage = stack.enter_context(_listen(options.storage_port, "--storage-port")) if served else None
        hosts = stack.enter_context(_listen(options.workstations_port, "--workstations-port"))
        api = stack.enter_context(_listen(options.kubernetes_port, "--kubernetes-port"))
        server, grpc_port = _grpc_server(options.grpc_port)
        for folder in (options.state, options.sockets, options.buckets):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        runtime = await open_runtime(
            options.sandbox,
            state=options.state / "sandboxes",
            sockets=options.sockets,
            egress_kind=options.egress,
        )
        stack.push_async_callback(runtime.close)
        tokens = OidcTokens(options.state / "oidc.pem")
        operations = await stack.enter_async_context(Operations())
        tasks = await stack.enter_async_context(CloudTasks(options.state / "tasks.sqlite", tokens))
        run = await stack.enter_async_context(
            CloudRun(
                options.state / "run.sqlite",
                runtime=runtime,
                operations=operations,
                buckets=options.buckets,
                gateway_url=options.gateway_url,
                services_per_region=options.services_per_region,
            )
        )
        workstations = await stack.enter_async_context(
            Workstations(
                options.state / "workstations.sqlite",
                runtime=runtime,
                operations=operations,
                workstations_per_region=options.workstations_per_region,
            )
        )
        handlers = [*operations.handlers(), *tasks.handlers(), *run.handlers(), *workstations.handlers()]
        if options.firestore:  # imported by those who use it only
            from infra.emulators.firestore import Declared, FirestoreEmulator

            declared = Declared.read(options.firestore_indexes) if options.firestore_indexes else None
            firestore = await stack.enter_async_context(FirestoreEmulator(options.state / "firestore.sqlite", declared))
            handlers += firestore.handlers()
        server.add_generic_rpc_handlers(handlers)
        await server.start()
        stack.push_async_callback(server.stop, STOP_GRACE_S)
        await stack.enter_async_context(JwksServer(tokens, listener))
        doors = WorkstationsFront(workstations, options.sockets)
        stack.push_async_callback(doors.close)
        await stack.enter_async_context(HttpServer(doors, hosts, **HOSTS_SERVER))
        kubernetes = await stack.enter_async_context(
            Kubernetes(
                options.state / "kubernetes" / "objects.sqlite",
                runtime=runtime,
                folders=Folders(options.buckets, options.state / "filestore", options.state / "kubernetes" / "volumes"),
                agent_sandbox=options.agent_sandbox,
                capacity=AUTOSCALED,
            )
        )
        await stack.enter_async_context(HttpServer(kubernetes.app, api, **kubernetes.server_options))
        stack.callback(kubernetes.stop_streams)  # the server waits for its answers
        kubeconfig = options.kubeconfig or options.state / "kubeconfig"
        kubernetes.write_kubeconfig(kubeconfig, f"https://{HOST}:{api.getsockname()[1]}")
        if storage is not None:
            front = Front(options.buckets, options.storage_server)
            stack.push_async_callback(front.close)
            await stack.enter_async_context(HttpServer(front, storage))
        ready = {
            "grpc": f"{HOST}:{grpc_port}",
            "http": f"{HOST}:{listener.getsockname()[1]}",
            "workstations": f"{HOST}:{hosts.getsockname()[1]}",
            "kubernetes": f"{HOST}:{api.getsockname()[1]}",
            "sandbox": dict(runtime.facts),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()
        log.info("emulators are stopping")


def _listen(port: int, option: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as exc:
        listener.close()
        raise PortTakenError(f"port {port} ({option}) cannot be used: {exc.strerror}; choose another") from exc
    return listener


def _grpc_server(port: int) -> tuple[grpc.aio.Server, int]:
    """A server that holds its port, without handlers yet."""
    _listen(port, "--grpc-port").close()  # gRPC's own refusal is three lines on stderr
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # otherwise two servers share a port without a word
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", -1),
        ]
    )
    try:
        return server, server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError as exc:
        raise PortTakenError(f"port {port} (--grpc-port) cannot be used: {exc}; choose another") from exc


def _stop_at_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """A thread, because an event loop cannot watch every kind of file that may be the standard input."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="stdin", daemon=True).start()


async def run(options: Options) -> int:
    """The exit code."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _stop_at_end_of_stdin(loop, stop)
    try:
        await serve(options, stop)
    except PortTakenError as exc:
        sys.stderr.write(f"emulators: {exc}\n")
        return PORT_TAKEN
    except SandboxUnavailable as exc:
        sys.stderr.write(f"emulators: {' '.join(str(exc).split())}\n")
        return NO_SANDBOX
    return 0


def main() -> int:
    options = parse(sys.argv[1:])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("uvicorn", "httpx"):
        logging.getLogger(library).setLevel(logging.WARNING)
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
