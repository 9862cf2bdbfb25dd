"""The providers that a deployment offers: those that it has settings for, each built when it is first used."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from shared.clients import Clients
from shared.config import Settings
from shared.models import ProviderName

if TYPE_CHECKING:
    from shared.providers.base import Provider
    from shared.providers.cloud_run_api import CloudRunSettings

T = TypeVar("T")


def offered(settings: Settings, clients: Clients, closing: AsyncExitStack) -> "dict[ProviderName, Provider]":
    """By name, in the order in which they are named to callers. What they open is closed by `closing`."""
    found: dict[ProviderName, Provider] = {ProviderName.CLOUD_RUN: deferred(lambda: _cloud_run(settings, clients))}
    if settings.gke_kubeconfig or settings.gke_cluster:
        found[ProviderName.GKE] = deferred(lambda: _gke(settings, closing))
    if settings.workstations_cluster:
        found[ProviderName.WORKSTATIONS] = deferred(lambda: _workstations(settings, clients))
    return found


def cloud_run_settings(settings: Settings) -> "CloudRunSettings":
    """What sessions and jobs on Cloud Run have in common."""
    from shared.providers.cloud_run_api import CloudRunSettings, Mode

    return CloudRunSettings(
        settings.project,
        settings.location,
        settings.workspace_account,
        settings.closed_subnetwork,
        settings.filestore_subnetwork,
        Mode(settings.cloud_run_mode),
    )


def _cloud_run(settings: Settings, clients: Clients) -> "Provider":
    from shared.providers.cloud_run import CloudRun

    return CloudRun(lambda: clients.run_services, lambda: clients.run_instances, cloud_run_settings(settings))


def _gke(settings: Settings, closing: AsyncExitStack) -> "Provider":
    from shared.providers.gke import Gke, GkeSettings, credentials

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
    gke = Gke(wanted, credentials(wanted))
    closing.push_async_callback(gke.close)
    return gke


def _workstations(settings: Settings, clients: Clients) -> "Provider":
    from shared.providers.workstations import Workstations, WorkstationsSettings

    return Workstations(
        lambda: clients.workstations,
        WorkstationsSettings(
            cluster=settings.workstations_cluster,
            config=settings.workstations_config,
            url=settings.workstations_url,
            cpu=settings.workstations_cpu,
            memory_bytes=settings.workstations_memory_gib << 30,
        ),
    )


def deferred(build: Callable[[], T]) -> T:
    """Stands for an adapter that is imported and built when it is first used, once."""
    return cast("T", _Deferred(build))


class _Deferred:
    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build

    def __getattr__(self, name: str) -> Any:
        """What it does not have itself. Found once: later uses of the name do not come here."""
        found = self.__dict__[name] = getattr(self._built, name)
        return found

    @cached_property
    def _built(self) -> Any:
        return self._build()
