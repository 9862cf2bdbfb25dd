"""Requests to the API server as tests write them: JSON in, JSON out, of one namespace."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from tests.contract.kubernetes_rig import KUBECONFIG, Cluster

Json = dict[str, Any]
T = TypeVar("T")

SOON_S = 120.0 if KUBECONFIG else 15.0  # elsewhere images are pulled, and controllers are behind
NOBODY = "nobody"  # a scheduler that no cluster has: what a test does to its Pod, nobody else does


@dataclass(frozen=True, slots=True)
class Namespace:
    cluster: Cluster
    name: str

    def path(self, plural: str, name: str = "") -> str:
        """`plural` is pods, networkpolicies.networking.k8s.io/v1, …"""
        resource, _, rest = plural.partition(".")
        group, _, version = rest.partition("/")
        root = f"/apis/{group}/{version}" if group else "/api/v1"
        return f"{root}/namespaces/{self.name}/{resource}{'/' + name if name else ''}"

    async def create(self, plural: str, body: Json, **query: str) -> Json:
        return told(await self.post(plural, body, **query), 201)

    async def post(self, plural: str, body: Json, **query: str) -> httpx.Response:
        return await self.cluster.http.post(self.path(plural), json=body, params=query)

    async def get(self, plural: str, name: str = "", **query: str) -> Json:
        return told(await self.cluster.http.get(self.path(plural, name), params=query))

    async def put(self, plural: str, name: str, body: Json, **query: str) -> httpx.Response:
        return await self.cluster.http.put(self.path(plural, name), json=body, params=query)

    async def patch(self, plural: str, name: str, body: Any, form: str = "merge", **query: str) -> httpx.Response:
        """`form`: json, merge, strategic-merge or apply."""
        media_type = f"application/{form}-patch+{'yaml' if form == 'apply' else 'json'}"
        return await self.cluster.http.patch(
            self.path(plural, name), content=json.dumps(body), params=query, headers={"Content-Type": media_type}
        )

    async def delete(self, plural: str, name: str = "", body: Json | None = None, **query: str) -> httpx.Response:
        """A server that gets a body does not look at the query."""
        return await self.cluster.http.request("DELETE", self.path(plural, name), json=body, params=query)


@asynccontextmanager
async def watched(cluster: Cluster, path: str, timeout_s: int, **query: str) -> AsyncIterator[AsyncIterator[Json]]:
    """The events of a watch, which ends after so many seconds."""
    query = {"watch": "true", "timeoutSeconds": str(timeout_s), **query}
    async with cluster.http.stream("GET", path, params=query, timeout=timeout_s + 5) as answer:
        assert answer.status_code == 200

        async def events() -> AsyncIterator[Json]:
            async for line in answer.aiter_lines():
                yield json.loads(line)

        yield events()


async def soon(ask: Callable[[], Awaitable[T]], holds: Callable[[T], object]) -> T:
    """The first answer that holds: a real API server learns of its own objects a moment after it took them."""
    end = asyncio.get_running_loop().time() + SOON_S
    while not holds(answer := await ask()):
        assert asyncio.get_running_loop().time() < end, f"after {SOON_S} s still {answer}"
        await asyncio.sleep(0.02)
    return answer


def told(answer: httpx.Response, status: int = 200) -> Json:
    """The body of an answer that has to have that status."""
    assert answer.status_code == status, answer.text
    body: Json = answer.json()
    return body


def refused(answer: httpx.Response, code: int, reason: str) -> Json:
    """The Status of a refusal; its message and causes are for the test to look at."""
    body = told(answer, code)
    assert (body["kind"], body["status"], body["code"], body["reason"]) == ("Status", "Failure", code, reason)
    return body


def a_pod(name: str = "pod", **spec: Any) -> Json:
    """That nobody schedules."""
    containers = spec.pop("containers", [{"name": "main", "image": "python:3.12"}])
    return {"metadata": {"name": name}, "spec": {"containers": containers, "schedulerName": NOBODY, **spec}}


def a_config_map(name: str = "settings", **data: str) -> Json:
    return {"metadata": {"name": name}, "data": data or {"a": "1"}}


def a_secret(name: str, **labels: str) -> Json:
    """Of a kind of which a namespace has none from the start, in any cluster."""
    return {"metadata": {"name": name, "labels": labels}, "stringData": {"a": "1"}}
