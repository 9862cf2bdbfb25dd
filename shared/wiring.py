"""The composition root: the use cases over their adapters, each made on first use and closed in reverse."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from shared.clients import Clients
from shared.config import Settings
from shared.jobs import Jobs
from shared.keys import Keys
from shared.models import ProviderName
from shared.moving import Moving
from shared.offer import cloud_run_settings, deferred, offered
from shared.ports import JobPorts, Ports
from shared.sessions import Sessions
from shared.steps import Steps
from shared.suspension import Suspension
from shared.templates import Template, Templates

if TYPE_CHECKING:
    import aiohttp

    from shared.agent import HttpAgents
    from shared.buckets import CloudStorage
    from shared.cloud_run_jobs import CloudRunJobs
    from shared.cloud_tasks import CloudTasks
    from shared.identity import TaskIdentity
    from shared.providers.base import Provider
    from shared.reconcile import Reconciler
    from shared.store import FirestoreStore
    from shared.tickets import Tickets

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
        return Ports(
            store=self.store,
            tasks=deferred(lambda: self.tasks),
            buckets=deferred(lambda: self.buckets),
            agents=deferred(lambda: self.agents),
            providers=self.providers,
            tickets=deferred(lambda: self.tickets),
            clock=self.clock,
            templates=self.templates,
            relay_url=self.settings.relay_url,
            jobs=self._job_ports if ProviderName.CLOUD_RUN in self.providers else None,
        )

    @cached_property
    def agents(self) -> "HttpAgents":
        from shared.agent import HttpAgents

        return HttpAgents(self.http, self.tickets, self.providers)

    @cached_property
    def tickets(self) -> "Tickets":
        from shared.tickets import Tickets

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

        return Keys(FirestoreKeys(*self._clients.firestore), self.settings.bootstrap_key, clock=self.clock)

    @cached_property
    def identity(self) -> "TaskIdentity":
        from shared.identity import TaskIdentity

        return TaskIdentity(self.http, self.settings.oidc_certs_url, self.settings.task_account)

    @cached_property
    def reconciler(self) -> "Reconciler":
        from shared.reconcile import Reconciler

        return Reconciler(self.ports)

    @cached_property
    def store(self) -> "FirestoreStore":
        from shared.store import FirestoreStore

        return FirestoreStore(*self._clients.firestore)

    @cached_property
    def tasks(self) -> "CloudTasks":
        from shared.cloud_tasks import CloudTasks, CloudTasksSettings

        settings = self.settings
        return CloudTasks(
            lambda: self._clients.tasks,
            CloudTasksSettings(
                settings.project, settings.location, settings.queue, settings.function_url, settings.task_account
            ),
        )

    @cached_property
    def buckets(self) -> "CloudStorage":
        from shared.buckets import CloudStorage

        settings = self.settings
        return CloudStorage(lambda: self._clients.storage, settings.location, settings.workspace_account)

    @cached_property
    def providers(self) -> "dict[ProviderName, Provider]":
        return offered(self.settings, self._clients, self._closing)

    @cached_property
    def _clients(self) -> Clients:
        return Clients(self.settings, self._closing)

    @cached_property
    def http(self) -> "aiohttp.ClientSession":
        import aiohttp

        from shared.passage import http_client

        client = http_client(aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_S))
        self._closing.push_async_callback(client.close)
        return client

    @cached_property
    def _job_ports(self) -> JobPorts:
        from shared.job_store import FirestoreJobs

        return JobPorts(FirestoreJobs(*self._clients.firestore), deferred(self._job_runs))

    def _job_runs(self) -> "CloudRunJobs":
        from shared.cloud_run_jobs import CloudRunJobs

        clients, settings = self._clients, cloud_run_settings(self.settings)
        return CloudRunJobs(lambda: clients.run_jobs, lambda: clients.run_executions, settings)

    async def close(self) -> None:
        """Close what was opened, in reverse."""
        await self._closing.aclose()


_services: dict[asyncio.AbstractEventLoop, Services] = {}


def services() -> Services:
    """This process' services, for the running event loop: clients of gRPC belong to the loop that they were made on."""
    loop = asyncio.get_running_loop()
    if loop not in _services:
        _services[loop] = Services(Settings.from_environment())
    return _services[loop]
