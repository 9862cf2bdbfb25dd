"""The composition root: the use cases over their adapters. Clients of clouds open on first use and close in reverse.

Imports of cloud libraries stand inside the functions that need them: a function that never provisions never loads the
Cloud Run client, and its cold start doesn't pay for it.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.config import Settings
from shared.identity import TaskIdentity
from shared.jobs import Jobs
from shared.keys import Keys
from shared.models import ProviderName
from shared.moving import Moving
from shared.ports import JobPorts, Ports
from shared.sessions import Sessions
from shared.steps import Steps
from shared.suspension import Suspension
from shared.templates import Template, Templates
from shared.tickets import Tickets

if TYPE_CHECKING:
    import aiohttp
    from google.cloud import run_v2, tasks_v2, workstations_v1
    from google.cloud.firestore_v1 import AsyncClient
    from google.cloud.storage import Client

    from shared.buckets import CloudStorage
    from shared.cloud_run_jobs import CloudRunJobs
    from shared.documents import DocumentReader
    from shared.providers.base import Provider
    from shared.providers.cloud_run_api import CloudRunSettings
    from shared.reconcile import Reconciler
    from shared.store import FirestoreStore
    from shared.tasks import CloudTasks

MAX_CONNECTIONS = 1000  # one function instance may hold as many commands as its concurrency; beyond, they queue
IDLE_S = 3.0  # before uvicorn's 5 s: a command must not be sent on a connection that the agent is about to close


def utc_now() -> datetime:
    """Now, aware."""
    return datetime.now(UTC)


@dataclass
class Services:
    """Everything a function needs, made once per process and event loop. `close()` is idempotent."""

    settings: Settings
    clock: Callable[[], datetime] = utc_now
    _closing: AsyncExitStack = field(default_factory=AsyncExitStack)

    @cached_property
    def sessions(self) -> Sessions:
        return Sessions(self.ports)

    @cached_property
    def workspaces(self) -> Sessions:
        """The same sessions as the older API sees them: those on Cloud Run."""
        return Sessions(self.ports, only=ProviderName.CLOUD_RUN)

    @cached_property
    def steps(self) -> Steps:
        return Steps(self.ports)

    @cached_property
    def suspension(self) -> Suspension:
        return Suspension(self.ports)

    @cached_property
    def moving(self) -> Moving:
        return Moving(self.ports)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.ports)

    @cached_property
    def ports(self) -> Ports:
        from shared.agent import HttpAgents

        return Ports(
            store=self.store,
            tasks=Deferred(lambda: self.tasks),
            buckets=Deferred(lambda: self.buckets),
            agents=HttpAgents(self.http, self.tickets, self.providers),
            providers=self.providers,
            tickets=self.tickets,
            clock=self.clock,
            templates=self.templates,
            relay_url=self.settings.relay_url,
            jobs=self._job_ports if ProviderName.CLOUD_RUN in self.providers else None,
        )

    @cached_property
    def tickets(self) -> Tickets:
        return Tickets(self.settings.ticket_key, clock=self.clock)

    @cached_property
    def templates(self) -> Templates:
        settings = self.settings
        own: tuple[Template, ...] = ()
        if settings.templates_file:
            from shared.template_file import read_templates

            own = read_templates(settings.templates_file)
        return Templates(own, image=settings.image, unavailable=settings.unavailable_templates)

    @cached_property
    def keys(self) -> Keys:
        from shared.key_store import FirestoreKeys

        return Keys(FirestoreKeys(*self._firestore), self.settings.bootstrap_key, clock=self.clock)

    @cached_property
    def identity(self) -> TaskIdentity:
        return TaskIdentity(self.http, self.settings.oidc_certs_url, self.settings.task_account)

    @cached_property
    def reconciler(self) -> "Reconciler":
        from shared.reconcile import Reconciler

        return Reconciler(self.ports)

    @cached_property
    def store(self) -> "FirestoreStore":
        from shared.store import FirestoreStore

        return FirestoreStore(*self._firestore)

    @cached_property
    def _firestore(self) -> "tuple[AsyncClient, DocumentReader]":
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.firestore_v1 import AsyncClient
        from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
        from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

        from shared.documents import DocumentReader

        # The client takes an emulator's address from FIRESTORE_EMULATOR_HOST by itself.
        settings = self.settings
        local = {"credentials": AnonymousCredentials()} if settings.firestore_host else {}
        client = AsyncClient(project=settings.project, database=settings.firestore_database, **local)
        reader = DocumentReader(
            FirestoreAsyncClient(**self._transport(FirestoreGrpcAsyncIOTransport, settings.firestore_host)),
            f"projects/{settings.project}/databases/{settings.firestore_database}/documents",
            (("authorization", "Bearer owner"),) if settings.firestore_host else (),
        )
        return client, reader

    @cached_property
    def tasks(self) -> "CloudTasks":
        from shared.tasks import CloudTasks, CloudTasksSettings

        settings = self.settings
        return CloudTasks(
            lambda: self._tasks_client,
            CloudTasksSettings(
                settings.project, settings.location, settings.queue, settings.function_url, settings.task_account
            ),
        )

    @cached_property
    def buckets(self) -> "CloudStorage":
        from shared.buckets import CloudStorage

        return CloudStorage(lambda: self._storage_client, self.settings.location)

    @cached_property
    def providers(self) -> "dict[ProviderName, Provider]":
        """Those that the deployment has settings for."""
        found: dict[ProviderName, Provider] = {ProviderName.CLOUD_RUN: Deferred(self._cloud_run)}
        if self.settings.gke_kubeconfig or self.settings.gke_cluster:
            found[ProviderName.GKE] = Deferred(self._gke)
        if self.settings.workstations_cluster:
            found[ProviderName.WORKSTATIONS] = Deferred(self._workstations)
        return found

    @cached_property
    def http(self) -> "aiohttp.ClientSession":
        import aiohttp

        from shared.passage import http_client

        client = http_client(aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_S))
        self._closing.push_async_callback(client.close)
        return client

    async def close(self) -> None:
        """Close what was opened, in reverse."""
        await self._closing.aclose()

    def _cloud_run(self) -> "Provider":
        from shared.providers.cloud_run import CloudRun

        return CloudRun(lambda: self._run_client, lambda: self._run_instances, self._cloud_run_settings)

    @property
    def _cloud_run_settings(self) -> "CloudRunSettings":
        from shared.providers.cloud_run_api import CloudRunSettings, Mode

        settings = self.settings
        return CloudRunSettings(
            settings.project,
            settings.location,
            settings.workspace_account,
            settings.closed_subnetwork,
            settings.filestore_subnetwork,
            Mode(settings.cloud_run_mode),
        )

    @cached_property
    def _job_ports(self) -> JobPorts:
        from shared.job_store import FirestoreJobs

        return JobPorts(FirestoreJobs(*self._firestore), Deferred(self._job_runs))

    def _job_runs(self) -> "CloudRunJobs":
        from shared.cloud_run_jobs import CloudRunJobs

        return CloudRunJobs(lambda: self._run_jobs, lambda: self._run_executions, self._cloud_run_settings)

    @cached_property
    def _run_jobs(self) -> "run_v2.JobsAsyncClient":
        from google.cloud import run_v2
        from google.cloud.run_v2.services.jobs.transports import JobsGrpcAsyncIOTransport

        return run_v2.JobsAsyncClient(**self._transport(JobsGrpcAsyncIOTransport, self.settings.run_host))

    @cached_property
    def _run_executions(self) -> "run_v2.ExecutionsAsyncClient":
        from google.cloud import run_v2
        from google.cloud.run_v2.services.executions.transports import ExecutionsGrpcAsyncIOTransport

        return run_v2.ExecutionsAsyncClient(**self._transport(ExecutionsGrpcAsyncIOTransport, self.settings.run_host))

    def _gke(self) -> "Provider":
        from shared.providers.gke import Gke
        from shared.providers.gke_credentials import Credentials, Kubeconfig
        from shared.providers.gke_endpoint import GkeCluster, google_token
        from shared.providers.gke_manifests import GkeSettings

        settings = self.settings
        wanted = GkeSettings(
            kubeconfig=settings.gke_kubeconfig,
            cluster=settings.gke_cluster,
            runtime_class=settings.gke_runtime_class,
            pod_network=settings.gke_pod_network,
            buckets=settings.gke_buckets,
            service_account=settings.gke_service_account,
            storage_class=settings.gke_storage_class,
            disk_gib=settings.gke_disk_gib,
            warm_pool=settings.gke_warm_pool,
        )
        credentials: Credentials
        if settings.gke_kubeconfig:
            credentials = Kubeconfig(Path(settings.gke_kubeconfig))
        else:
            credentials = GkeCluster(settings.gke_cluster, google_token())
        gke = Gke(wanted, credentials)
        self._closing.push_async_callback(gke.close)
        return gke

    def _workstations(self) -> "Provider":
        from shared.providers.workstations import Workstations, WorkstationsSettings

        settings = self.settings
        return Workstations(
            lambda: self._workstations_client,
            WorkstationsSettings(
                cluster=settings.workstations_cluster,
                config=settings.workstations_config,
                url=settings.workstations_url,
                cpu=settings.workstations_cpu,
                memory_bytes=settings.workstations_memory_gib << 30,
            ),
        )

    @cached_property
    def _workstations_client(self) -> "workstations_v1.WorkstationsAsyncClient":
        from google.cloud import workstations_v1
        from google.cloud.workstations_v1.services.workstations.transports import WorkstationsGrpcAsyncIOTransport

        emulator = self.settings.workstations_host
        return workstations_v1.WorkstationsAsyncClient(**self._transport(WorkstationsGrpcAsyncIOTransport, emulator))

    @cached_property
    def _run_client(self) -> "run_v2.ServicesAsyncClient":
        from google.cloud import run_v2
        from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport

        return run_v2.ServicesAsyncClient(**self._transport(ServicesGrpcAsyncIOTransport, self.settings.run_host))

    @cached_property
    def _run_instances(self) -> "run_v2.InstancesAsyncClient":
        from google.cloud import run_v2
        from google.cloud.run_v2.services.instances.transports import InstancesGrpcAsyncIOTransport

        return run_v2.InstancesAsyncClient(**self._transport(InstancesGrpcAsyncIOTransport, self.settings.run_host))

    @cached_property
    def _tasks_client(self) -> "tasks_v2.CloudTasksAsyncClient":
        from google.cloud import tasks_v2
        from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

        return tasks_v2.CloudTasksAsyncClient(
            **self._transport(CloudTasksGrpcAsyncIOTransport, self.settings.tasks_host)
        )

    @cached_property
    def _storage_client(self) -> "Client":
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        options: dict[str, Any] = {}
        if self.settings.storage_host:
            host = self.settings.storage_host
            endpoint = host if "://" in host else f"http://{host}"
            options = {"credentials": AnonymousCredentials(), "client_options": {"api_endpoint": endpoint}}
        client = Client(project=self.settings.project, **options)
        self._closing.callback(client.close)
        return client

    def _transport(self, transport: Any, emulator: str) -> dict[str, Any]:
        """A client's options: an insecure channel to an emulator, or nothing: the cloud, with its credentials."""
        if not emulator:
            return {}
        import grpc.aio

        channel = grpc.aio.insecure_channel(emulator)
        self._closing.push_async_callback(channel.close)
        return {"transport": transport(channel=channel)}


class Deferred:
    """Stands for an adapter that is imported and built when it is first used."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__[name] = getattr(self._build(), name)
        return found


_services: dict[asyncio.AbstractEventLoop, Services] = {}


def services() -> Services:
    """This process' services, for the running event loop: clients of gRPC belong to the loop that they were made on."""
    loop = asyncio.get_running_loop()
    if loop not in _services:
        _services[loop] = Services(Settings.from_environment())
    return _services[loop]
