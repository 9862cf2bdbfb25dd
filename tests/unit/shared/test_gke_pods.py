"""What the GKE provider does where the cluster does not come on: it waits, and not for ever."""

import asyncio
from typing import Any

import pytest

from shared.errors import ProviderUnavailable
from shared.providers.gke_cluster import CONFLICT, PODS, Kind, Refused
from shared.providers.gke_manifests import GkeSettings, Manifest
from shared.providers.gke_pods import Pods
from tests.fakes import a_session


class Stuck:
    """A cluster in which the session's last Pod is being deleted, on a node that is lost."""

    async def create_namespace(self, manifest: Manifest) -> Manifest:
        return manifest

    async def create(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        if kind is PODS:
            raise Refused(CONFLICT, "object is being deleted: pods already exists")
        return manifest

    async def find(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return {"metadata": {"name": name, "deletionTimestamp": "2026-11-01T12:00:00Z"}}

    async def gone(self, kind: Kind, namespace: str, obj: Manifest) -> None:
        await asyncio.Event().wait()


async def test_a_pod_that_does_not_end_is_not_waited_for_without_end() -> None:
    cluster: Any = Stuck()
    pods = Pods(cluster, GkeSettings(), make_timeout_s=0.01)
    session = a_session()
    with pytest.raises(ProviderUnavailable, match=rf"{session.id}.*could not be made within 0\.01 s"):
        async with asyncio.timeout(5):
            await pods.start(session, {}, "bucket")
