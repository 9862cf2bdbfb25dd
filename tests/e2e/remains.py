"""Waiting for what sessions become, and everything that they leave behind."""

import asyncio
import base64
import json
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import httpx
import psutil
from google.auth.credentials import AnonymousCredentials
from google.cloud import run_v2, tasks_v2, workstations_v1
from google.cloud.firestore_v1 import Client as Firestore
from google.cloud.run_v2.services.jobs.transports import JobsGrpcAsyncIOTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport
from google.cloud.storage import Client as Storage
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.cloud.workstations_v1.services.workstations.transports import WorkstationsGrpcAsyncIOTransport

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from sdk.python.errors import NotFound

PATIENCE_S = 30.0
KUBERNETES_LISTS = (
    "/api/v1/pods",
    "/api/v1/secrets",
    "/api/v1/persistentvolumeclaims",
    "/apis/networking.k8s.io/v1/networkpolicies",
)


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> float:
    """Ask until it is so; how long it took. Bounded, with growing pauses."""
    began, pause = time.monotonic(), 0.005
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"{what}: not after {seconds:g} s"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)
    return time.monotonic() - began


def is_gone(client: OnMemOSClient, session_id: str) -> bool:
    try:
        client.get_session(session_id)
    except NotFound:
        return True
    return False


class Remains:
    """Everything that sessions leave behind, asked of the emulators by Google's own clients."""

    def __init__(self, stack: Stack, mark: str) -> None:
        self._env, self._home, self._mark = stack.environment, stack.home, mark
        self._project = self._env["GOOGLE_CLOUD_PROJECT"]
        self._parent = f"projects/{self._project}/locations/{self._env['ONMEMOS_LOCATION']}"

    def found(self) -> dict[str, list[str]]:
        """What carries the mark, by kind; an empty dictionary when nothing does."""
        everything = {
            "documents": self._documents(),
            "buckets": self._buckets(),
            "services": asyncio.run(self._services()),
            "jobs": asyncio.run(self._jobs()),
            "workstations": asyncio.run(self._workstations()),
            "Kubernetes objects": self._kubernetes(),
            "tasks": asyncio.run(self._tasks()),
            "folders": [name for _, names, _ in os.walk(self._home) for name in names if self._mark in name],
            "processes": self._processes(),
        }
        return {kind: names for kind, names in everything.items() if names}

    def _documents(self) -> list[str]:
        os.environ["FIRESTORE_EMULATOR_HOST"] = self._env["FIRESTORE_EMULATOR_HOST"]
        firestore = Firestore(project=self._project, credentials=AnonymousCredentials())
        sessions = [one.id for one in firestore.collection("sessions").list_documents()]
        jobs = [f"{one.get('session_id')}/{one.id}" for one in firestore.collection("jobs").stream()]
        return [name for name in (*sessions, *jobs) if self._mark in name]

    def _buckets(self) -> list[str]:
        options = {"api_endpoint": self._env["STORAGE_EMULATOR_HOST"]}
        storage = Storage(self._project, credentials=AnonymousCredentials(), client_options=options)
        return [bucket.name for bucket in storage.list_buckets() if self._mark in str(bucket.name)]

    async def _services(self) -> list[str]:
        async with grpc.aio.insecure_channel(self._env["CLOUD_RUN_EMULATOR_HOST"]) as channel:
            client = run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel))
            services = await client.list_services(parent=self._parent)
            return [service.name async for service in services if self._mark in service.name]

    async def _jobs(self) -> list[str]:
        async with grpc.aio.insecure_channel(self._env["CLOUD_RUN_EMULATOR_HOST"]) as channel:
            client = run_v2.JobsAsyncClient(transport=JobsGrpcAsyncIOTransport(channel=channel))
            jobs = await client.list_jobs(parent=self._parent)
            return [job.name async for job in jobs if self._mark in job.labels.get("onmemos-session", "")]

    async def _workstations(self) -> list[str]:
        parent = f"{self._env['ONMEMOS_WORKSTATIONS_CLUSTER']}/workstationConfigs/-"
        async with grpc.aio.insecure_channel(self._env["WORKSTATIONS_EMULATOR_HOST"]) as channel:
            transport = WorkstationsGrpcAsyncIOTransport(channel=channel)
            client = workstations_v1.WorkstationsAsyncClient(transport=transport)
            found = await client.list_workstations(parent=parent)
            return [one.name async for one in found if self._mark in one.name]

    def _kubernetes(self) -> list[str]:
        """Namespaces stay: they are a tenant's, and cost nothing."""
        config = json.loads(Path(self._env["ONMEMOS_KUBECONFIG"]).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        found = []
        with httpx.Client(base_url=cluster["server"], verify=trust) as client:
            client.headers["Authorization"] = f"Bearer {user['token']}"
            for path in KUBERNETES_LISTS:
                items = client.get(path, params={"labelSelector": "onmemos.dev/session"}).raise_for_status().json()
                names = [f"{path}/{item['metadata']['name']}" for item in items["items"]]
                found += [name for name in names if self._mark in name]
        return found

    async def _tasks(self) -> list[str]:
        async with grpc.aio.insecure_channel(self._env["CLOUD_TASKS_EMULATOR_HOST"]) as channel:
            client = tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
            queues = [queue.name async for queue in await client.list_queues(parent=self._parent)]
            found = [task.name for queue in queues async for task in await client.list_tasks(parent=queue)]
            return [name for name in found if self._mark in name]

    def _processes(self) -> list[str]:
        return [" ".join(process.info["cmdline"]) for process in processes_of(self._mark)]


def processes_of(mark: str) -> list[psutil.Process]:
    """The processes in whose session's name, or in whose command line, the mark stands."""
    return [
        process
        for process in psutil.process_iter(["pid", "cmdline", "environ"])
        if process.pid != os.getpid()
        and (
            mark in " ".join(process.info["cmdline"] or [])
            or mark in (process.info["environ"] or {}).get("WORKSPACE_ID", "")
        )
    ]
