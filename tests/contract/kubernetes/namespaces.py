"""The namespaces of a test, and their end: on an API server alone the test does what controllers do elsewhere."""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self
from uuid import uuid4

import httpx

from tests.contract.kubernetes.requests import Json, Namespace, soon, told
from tests.contract.kubernetes_rig import Cluster

# What the tests make.
KINDS = (
    *("pods", "configmaps", "secrets", "services", "serviceaccounts", "persistentvolumeclaims", "events"),
    *("resourcequotas", "limitranges", "networkpolicies.networking.k8s.io/v1"),
)


class Namespaces:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ends = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._ends.aclose()

    async def new(self, labels: dict[str, str] | None = None, *, account: bool = True) -> Namespace:
        """`account`: with its default service account, without which it takes no Pods."""
        namespace = Namespace(self._cluster, f"test-{uuid4().hex[:8]}")
        body = {"metadata": {"name": namespace.name, "labels": labels or {}}}
        told(await self._cluster.http.post("/api/v1/namespaces", json=body), 201)
        if not self._cluster.is_emulated:  # all of that goes
            self._ends.push_async_callback(remove, namespace)
        if account:
            await give_account(namespace)
        return namespace


async def give_account(namespace: Namespace) -> None:
    """Wait for the default service account, or make it where nobody does."""
    cluster = namespace.cluster
    path = namespace.path("serviceaccounts", "default")
    if await cluster.has_controllers():
        await soon(lambda: cluster.http.get(path), lambda answer: answer.status_code == httpx.codes.OK)
    else:
        answer = await namespace.post("serviceaccounts", {"metadata": {"name": "default"}})
        assert answer.status_code in (httpx.codes.CREATED, httpx.codes.CONFLICT), answer.text


async def remove(namespace: Namespace) -> None:
    """With all that is in it; that it is gone is waited for only where it is done here."""
    cluster, path = namespace.cluster, f"/api/v1/namespaces/{namespace.name}"
    await asyncio.gather(*(_empty(namespace, plural) for plural in KINDS))
    await cluster.http.delete(path)
    if await cluster.has_controllers():
        return
    answer = await cluster.http.get(path)
    if answer.status_code == httpx.codes.OK:
        await cluster.http.put(f"{path}/finalize", json={**answer.json(), "spec": {"finalizers": []}})


async def _empty(namespace: Namespace, plural: str) -> None:
    """Whatever holds it."""
    await namespace.delete(plural, gracePeriodSeconds="0")
    answer = await namespace.cluster.http.get(namespace.path(plural))
    left: list[Json] = answer.json()["items"] if answer.status_code == httpx.codes.OK else []
    for obj in left:
        if obj["metadata"].get("finalizers"):
            await namespace.patch(plural, obj["metadata"]["name"], {"metadata": {"finalizers": None}})
