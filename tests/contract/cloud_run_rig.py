"""Cloud Run's emulator with its real clients, over sandboxes that are only a socket each: for tests of its logic."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
from google.cloud import run_v2
from google.cloud.run_v2.services.executions.transports import ExecutionsGrpcAsyncIOTransport
from google.cloud.run_v2.services.instances.transports import InstancesGrpcAsyncIOTransport
from google.cloud.run_v2.services.jobs.transports import JobsGrpcAsyncIOTransport
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcAsyncIOTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport
from google.cloud.run_v2.services.tasks.transports import TasksGrpcAsyncIOTransport

from infra.emulators.operations import Operations
from infra.emulators.run.cloud_run import CloudRun
from infra.sandbox.spec import ContainerSpec, SandboxError, SandboxStartFailed

PARENT = "projects/onmemos-local/locations/us-central1"
GATEWAY = "http://localhost:8080"


class SocketContainer:
    """A "container" that answers HTTP on its socket, or does what its command says instead.

    ("exit", CODE) ends at once; ("silent",) never listens; ("status", CODE) answers with that status.
    """

    facts: Mapping[str, str] = {"isolation": "none", "egress": "none", "limits": "none"}

    def __init__(self, spec: ContainerSpec, socket: Path) -> None:
        self.name = spec.name
        self.spec = spec
        self.socket = socket
        self.attendant = socket.with_name("attendant.sock")
        self._status = int(spec.command[1]) if spec.command[:1] == ("status",) else 200
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._server: asyncio.Server | None = None

    async def begin(self) -> None:
        if self.spec.command[:1] == ("exit",):
            self.crash(int(self.spec.command[1]))
        elif self.spec.command != ("silent",):
            self.socket.parent.mkdir(parents=True, exist_ok=True)
            self._server = await asyncio.start_unix_server(self._answer, str(self.socket))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(f"HTTP/1.1 {self._status} So\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    def crash(self, code: int) -> None:
        if self._server:
            self._server.close()
            self.socket.unlink(missing_ok=True)
        if not self._ended.done():
            self._ended.set_result(code)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float = 5) -> None:
        self.crash(143)

    def log_tail(self) -> str:
        return "one line\nboom: no such module\n"

    @property
    def runs(self) -> bool:
        return not self._ended.done()


@dataclass
class SocketRuntime:
    """Every start is kept in `started`; `refuse` and `refuse_removals` make the next ones fail; a name runs once."""

    sockets: Path
    facts: Mapping[str, str] = field(default_factory=dict)
    started: list[SocketContainer] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    refuse: int = 0
    refuse_removals: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start(self, spec: ContainerSpec) -> SocketContainer:
        if self.refuse:
            self.refuse -= 1
            raise SandboxStartFailed("no sandbox today")
        if any(container.name == spec.name for container in self.running()):
            raise SandboxStartFailed(f"{spec.name} runs already")
        container = SocketContainer(spec, self.sockets / spec.name / "agent.sock")
        await container.begin()
        async with self._changed:
            self.started.append(container)
            self._changed.notify_all()
        return container

    async def have_started(self, count: int) -> SocketContainer:
        """Wait until so many containers were started in all; the last of them."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: len(self.started) >= count)
        return self.started[-1]

    async def remove(self, name: str) -> None:
        if self.refuse_removals:
            self.refuse_removals -= 1
            raise SandboxError("a folder cannot be deleted")
        for container in self.running():
            if container.name == name:
                await container.stop()
        self.removed.append(name)

    async def close(self) -> None:
        for container in self.running():
            await container.stop()

    def running(self) -> list[SocketContainer]:
        return [container for container in self.started if container.runs]


@dataclass(frozen=True, slots=True)
class Rig:
    services: run_v2.ServicesAsyncClient
    revisions: run_v2.RevisionsAsyncClient
    instances: run_v2.InstancesAsyncClient
    jobs: run_v2.JobsAsyncClient
    executions: run_v2.ExecutionsAsyncClient
    tasks: run_v2.TasksAsyncClient
    emulator: CloudRun
    runtime: SocketRuntime
    buckets: Path
    address: str

    async def create(self, service_id: str, service: run_v2.Service | None = None, **more: Any) -> run_v2.Service:
        parent = more.pop("parent", PARENT)
        operation = await self.services.create_service(
            run_v2.CreateServiceRequest(parent=parent, service_id=service_id, service=service or a_service(), **more)
        )
        answer: run_v2.Service = await operation.result(timeout=5)
        return answer

    async def get(self, service_id: str) -> run_v2.Service:
        return await self.services.get_service(name=f"{PARENT}/services/{service_id}")

    async def create_instance(self, instance_id: str, instance: run_v2.Instance | None = None) -> run_v2.Instance:
        request = {"parent": PARENT, "instance_id": instance_id, "instance": instance or an_instance()}
        answer: run_v2.Instance = await (await self.instances.create_instance(request)).result(timeout=5)
        return answer

    async def get_instance(self, instance_id: str) -> run_v2.Instance:
        return await self.instances.get_instance(name=f"{PARENT}/instances/{instance_id}")

    async def create_job(self, job_id: str, job: run_v2.Job | None = None, **more: Any) -> run_v2.Job:
        operation = await self.jobs.create_job(
            run_v2.CreateJobRequest(parent=PARENT, job_id=job_id, job=job or a_job("exit", "0"), **more)
        )
        answer: run_v2.Job = await operation.result(timeout=5)
        return answer

    async def run_job(self, job_id: str, **overrides: Any) -> str:
        """The name of the execution that was begun."""
        operation = await self.jobs.run_job({"name": f"{PARENT}/jobs/{job_id}", "overrides": overrides})
        name: str = operation.metadata.name
        return name

    async def completed(self, execution: str) -> run_v2.Execution:
        return await self.execution_until(execution, lambda found: bool(found.completion_time))

    async def execution_until(self, name: str, holds: Callable[[run_v2.Execution], bool]) -> run_v2.Execution:
        """The execution once that holds; fails after five seconds."""
        for _ in range(1000):
            found = await self.executions.get_execution(name=name)
            if holds(found):
                return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"{name} stays {found}")

    async def until(self, service_id: str, state: Any) -> run_v2.Service:
        """The service once its terminal condition has that state; fails after five seconds."""
        return await _in_state(lambda: self.get(service_id), state)

    async def instance_until(self, instance_id: str, state: Any) -> run_v2.Instance:
        """The same for an instance."""
        return await _in_state(lambda: self.get_instance(instance_id), state)


R = TypeVar("R", run_v2.Service, run_v2.Instance)


async def _in_state(get: Callable[[], Awaitable[R]], state: Any) -> R:
    for _ in range(1000):
        found = await get()
        if found.terminal_condition.state == state:
            return found
        await asyncio.sleep(0.005)
    raise AssertionError(f"{found.name} stays {found.terminal_condition}, {state!r} is wanted")


@asynccontextmanager
async def cloud_run(folder: Path, sockets: Path, **settings: Any) -> AsyncIterator[Rig]:
    """The emulator on a port of its own; `folder` keeps its state, so opening it again is a restart."""
    runtime = SocketRuntime(sockets)
    buckets = folder / "buckets"
    buckets.mkdir(parents=True, exist_ok=True)
    operations = Operations(answer_within_s=settings.pop("answer_within_s", 8))
    emulator = CloudRun(
        folder / "state" / "run.sqlite",
        runtime=runtime,
        operations=operations,
        buckets=buckets,
        gateway_url=GATEWAY,
        **settings,
    )
    async with operations, emulator:
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        server.add_generic_rpc_handlers([*operations.handlers(), *emulator.handlers()])
        await server.start()
        address = f"127.0.0.1:{port}"
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                yield Rig(
                    run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel)),
                    run_v2.RevisionsAsyncClient(transport=RevisionsGrpcAsyncIOTransport(channel=channel)),
                    run_v2.InstancesAsyncClient(transport=InstancesGrpcAsyncIOTransport(channel=channel)),
                    run_v2.JobsAsyncClient(transport=JobsGrpcAsyncIOTransport(channel=channel)),
                    run_v2.ExecutionsAsyncClient(transport=ExecutionsGrpcAsyncIOTransport(channel=channel)),
                    run_v2.TasksAsyncClient(transport=TasksGrpcAsyncIOTransport(channel=channel)),
                    emulator,
                    runtime,
                    buckets,
                    address,
                )
        finally:
            await server.stop(None)


def an_agent(*command: str, **fields: Any) -> dict[str, Any]:
    """A container as the control plane asks for one; `command` is SocketContainer's."""
    return {
        "image": "us-docker.pkg.dev/onmemos/agent/python:3",
        "command": list(command),
        "env": [{"name": "WORKSPACE_ID", "value": "ws-1"}],
        "ports": [{"container_port": 8080}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        "startup_probe": {"http_get": {"path": "/health"}, "period_seconds": 1, "failure_threshold": 30},
        **fields,
    }


def an_instance(*command: str, **fields: Any) -> run_v2.Instance:
    container = an_agent(*command, **fields.pop("container", {}))
    return run_v2.Instance(
        {"labels": {"onmemos": "session"}, "launch_stage": "BETA", "containers": [container], **fields}
    )


def a_service(*command: str, **fields: Any) -> run_v2.Service:
    container = an_agent(*command, **fields.pop("container", {}))
    template = {
        "containers": [container],
        "scaling": {"min_instance_count": 1, "max_instance_count": 1},
        **fields.pop("template", {}),
    }
    return run_v2.Service({"labels": {"onmemos": "session"}, "template": template, **fields})


def a_job(*command: str, **fields: Any) -> run_v2.Job:
    """A job without retries; `command` is SocketContainer's. `task` are fields of its TaskTemplate."""
    container = {
        "image": "us-docker.pkg.dev/onmemos/agent/python:3",
        "command": list(command),
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        **fields.pop("container", {}),
    }
    task = {"containers": [container], "max_retries": 0, **fields.pop("task", {})}
    return run_v2.Job({"template": {"template": task, **fields.pop("template", {})}, **fields})
