"""Clients of Google Cloud's APIs: each opened on first use, for the cloud or for an emulator, and closed in reverse.

Imports of cloud libraries stand inside the functions that need them: a function that never provisions never loads the
Cloud Run client, and its cold start doesn't pay for it.
"""

from contextlib import AsyncExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.config import Settings

if TYPE_CHECKING:
    from google.cloud import run_v2, tasks_v2, workstations_v1
    from google.cloud.firestore_v1 import AsyncClient
    from google.cloud.storage import Client
    from grpc.aio import Channel

    from shared.documents import DocumentReader


class Clients:
    """One of each. Clients of gRPC belong to the event loop that they were made on; `closing` is the caller's."""

    def __init__(self, settings: Settings, closing: AsyncExitStack) -> None:
        self._settings = settings
        self._closing = closing
        self._channels: dict[str, Channel] = {}

    @cached_property
    def firestore(self) -> "tuple[AsyncClient, DocumentReader]":
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.firestore_v1 import AsyncClient
        from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
        from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

        from shared.documents import DocumentReader

        # The client takes an emulator's address from FIRESTORE_EMULATOR_HOST by itself.
        settings = self._settings
        local = {"credentials": AnonymousCredentials()} if settings.firestore_host else {}
        client = AsyncClient(project=settings.project, database=settings.firestore_database, **local)
        reader = DocumentReader(
            FirestoreAsyncClient(**self._transport(FirestoreGrpcAsyncIOTransport, settings.firestore_host)),
            f"projects/{settings.project}/databases/{settings.firestore_database}/documents",
            (("authorization", "Bearer owner"),) if settings.firestore_host else (),
        )
        return client, reader

    @cached_property
    def tasks(self) -> "tasks_v2.CloudTasksAsyncClient":
        from google.cloud import tasks_v2
        from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

        options = self._transport(CloudTasksGrpcAsyncIOTransport, self._settings.tasks_host)
        return tasks_v2.CloudTasksAsyncClient(**options)

    @cached_property
    def storage(self) -> "Client":
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        options: dict[str, Any] = {}
        if self._settings.storage_host:
            host = self._settings.storage_host
            endpoint = host if "://" in host else f"http://{host}"
            options = {"credentials": AnonymousCredentials(), "client_options": {"api_endpoint": endpoint}}
        client = Client(project=self._settings.project, **options)
        self._closing.callback(client.close)
        return client

    @cached_property
    def run_services(self) -> "run_v2.ServicesAsyncClient":
        from google.cloud import run_v2
        from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport

        return run_v2.ServicesAsyncClient(**self._transport(ServicesGrpcAsyncIOTransport, self._settings.run_host))

    @cached_property
    def run_instances(self) -> "run_v2.InstancesAsyncClient":
        from google.cloud import run_v2
        from google.cloud.run_v2.services.instances.transports import InstancesGrpcAsyncIOTransport

        return run_v2.InstancesAsyncClient(**self._transport(InstancesGrpcAsyncIOTransport, self._settings.run_host))

    @cached_property
    def run_jobs(self) -> "run_v2.JobsAsyncClient":
        from google.cloud import run_v2
        from google.cloud.run_v2.services.jobs.transports import JobsGrpcAsyncIOTransport

        return run_v2.JobsAsyncClient(**self._transport(JobsGrpcAsyncIOTransport, self._settings.run_host))

    @cached_property
    def run_executions(self) -> "run_v2.ExecutionsAsyncClient":
        from google.cloud import run_v2
        from google.cloud.run_v2.services.executions.transports import ExecutionsGrpcAsyncIOTransport

        return run_v2.ExecutionsAsyncClient(**self._transport(ExecutionsGrpcAsyncIOTransport, self._settings.run_host))

    @cached_property
    def workstations(self) -> "workstations_v1.WorkstationsAsyncClient":
        from google.cloud import workstations_v1
        from google.cloud.workstations_v1.services.workstations.transports import WorkstationsGrpcAsyncIOTransport

        options = self._transport(WorkstationsGrpcAsyncIOTransport, self._settings.workstations_host)
        return workstations_v1.WorkstationsAsyncClient(**options)

    def _transport(self, transport: Any, emulator: str) -> dict[str, Any]:
        """A client's options: an insecure channel to an emulator, or nothing: the cloud, with its credentials."""
        if not emulator:
            return {}
        import grpc.aio

        if emulator not in self._channels:
            self._channels[emulator] = grpc.aio.insecure_channel(emulator)
            self._closing.push_async_callback(self._channels[emulator].close)
        return {"transport": transport(channel=self._channels[emulator])}
