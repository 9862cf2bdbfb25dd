"""Requests to the API server as tests write them: JSON in, JSON out, of one namespace."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.contract.kubernetes_rig import Cluster

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Namespace:
    cluster: Cluster
    name: str

    async def begin(self, labels: dict[str, str] | None = None) -> None:
        body = {"metadata": {"name": self.name, "labels": labels or {}}}
        answer = await self.cluster.http.post("/api/v1/namespaces", json=body)
        assert answer.status_code == 201, answer.text
        await self.create("serviceaccounts", {"metadata": {"name": "default"}})

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
        return await self.cluster.http.request("DELETE", self.path(plural, name), json=body or {}, params=query)


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
    containers = spec.pop("containers", [{"name": "main", "image": "python:3.12"}])
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def a_config_map(name: str = "settings", **data: str) -> Json:
    return {"metadata": {"name": name}, "data": data or {"a": "1"}}
