"""How the GKE provider follows a cluster's objects, against a server whose every answer a test writes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.errors import ProviderUnavailable, ProvisioningFailed, QuotaExceeded
from shared.providers import gke_cluster
from shared.providers.gke_cluster import PODS, Cluster, Refused
from shared.providers.gke_credentials import Server

Object = dict[str, Any]


def pod(version: str, uid: str = "u1", **metadata: Any) -> Object:
    return {"kind": "Pod", "metadata": {"name": "p", "uid": uid, "resourceVersion": version, **metadata}}


def event(kind: str, obj: Object) -> Object:
    return {"type": kind, "object": obj}


def refusal(code: int, message: str) -> Object:
    return {"kind": "Status", "status": "Failure", "message": message, "code": code}


@dataclass
class Script:
    """An API server: lists and watches are answered in turn, the last of them for ever; `asked` is what came."""

    lists: list[list[Object]] = field(default_factory=lambda: [[]])
    watches: list[list[Object]] = field(default_factory=lambda: [[]])
    refusals: list[tuple[int, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    forgotten: int = 0
    url: str = ""

    async def server(self) -> Server:
        return Server(self.url)

    async def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer token-{self.forgotten}"}

    def forget(self) -> None:
        self.forgotten += 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.refusals:
            code, message = self.refusals.pop(0)
            return web.json_response(refusal(code, message), status=code)
        if "watch" not in request.query:
            self.asked.append(f"{request.method.lower()} {request.headers['Authorization']}")
            items = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
            return web.json_response({"kind": "PodList", "metadata": {"resourceVersion": "10"}, "items": items})
        self.asked.append(f"watch {request.query['resourceVersion']}")
        assert request.query["allowWatchBookmarks"] == "true"
        stream = web.StreamResponse()
        await stream.prepare(request)
        for one in self.watches.pop(0) if self.watches else []:
            await stream.write(json.dumps(one).encode() + b"\n")
        if not self.watches:
            await asyncio.Event().wait()
        return stream


@pytest.fixture
async def script(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Script]:
    monkeypatch.setattr(gke_cluster, "LEAST_WATCH_S", 0.0)
    stub = Script()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stub.answer)
    async with TestServer(app) as server:
        stub.url = str(server.make_url("/")).rstrip("/")
        yield stub


@pytest.fixture
async def cluster(script: Script) -> AsyncIterator[Cluster]:
    cluster = Cluster(script)
    yield cluster
    await cluster.close()


async def seen(cluster: Cluster, count: int, since: str | None = None) -> list[str | None]:
    """The resourceVersions of so many states."""
    found: list[str | None] = []
    async with asyncio.timeout(5), aclosing(cluster.states(PODS, "n", "p", since)) as states:
        async for state in states:
            found.append(state["metadata"]["resourceVersion"] if state else None)
            if len(found) == count:
                return found
    return found


async def test_what_there_is_comes_first_and_then_each_change(cluster: Cluster, script: Script) -> None:
    script.lists = [[pod("5")]]
    script.watches = [[event("MODIFIED", pod("11")), event("DELETED", pod("12"))]]
    assert await seen(cluster, 3) == ["5", "11", None]
    assert script.asked == ["get Bearer token-0", "watch 10"]


async def test_a_watch_that_ends_goes_on_where_it_was_bookmarks_included(cluster: Cluster, script: Script) -> None:
    script.watches = [
        [event("MODIFIED", pod("11")), event("BOOKMARK", pod("20"))],
        [event("MODIFIED", pod("21"))],
        [],
    ]
    assert await seen(cluster, 3) == [None, "11", "21"]
    assert script.asked == ["get Bearer token-0", "watch 10", "watch 20"]


@pytest.mark.parametrize("late", [False, True])
async def test_a_version_that_is_too_old_means_to_list_again(cluster: Cluster, script: Script, late: bool) -> None:
    if late:
        script.watches = [[event("ERROR", refusal(410, "too old resource version"))], []]
    else:
        script.refusals = [(410, "too old resource version")]
        script.watches = [[]]
    script.lists = [[pod("9")]]
    assert await seen(cluster, 1, since="3") == ["9"]


async def test_a_watch_that_brought_nothing_is_followed_by_a_list(cluster: Cluster, script: Script) -> None:
    script.watches = [[], [event("MODIFIED", pod("11"))]]
    script.lists = [[pod("9")]]
    assert await seen(cluster, 2, since="3") == ["9", "11"]
    assert script.asked == ["watch 3", "get Bearer token-0", "watch 10"]


async def test_an_object_is_gone_when_another_has_its_name(cluster: Cluster, script: Script) -> None:
    script.watches = [[event("MODIFIED", pod("11")), event("ADDED", pod("12", uid="u2"))]]
    async with asyncio.timeout(5):
        await cluster.gone(PODS, "n", pod("10"))
    assert script.asked == ["watch 10"]  # from the answer of the deletion on


@pytest.mark.parametrize("code", [401, 429, 500, 503, 504])
async def test_what_may_pass_is_unavailable(cluster: Cluster, script: Script, code: int) -> None:
    script.refusals = [(code, "later")]
    with pytest.raises(ProviderUnavailable, match=f"{code} later"):
        await cluster.find(PODS, "n", "p")


async def test_a_token_that_is_refused_is_asked_for_anew(cluster: Cluster, script: Script) -> None:
    script.refusals = [(401, "Unauthorized")]
    with pytest.raises(ProviderUnavailable):
        await cluster.find(PODS, "n", "p")
    await cluster.find(PODS, "n", "p")
    assert script.asked == ["get Bearer token-1"]


@pytest.mark.parametrize(
    ("code", "message", "failure"),
    [
        (403, "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1", QuotaExceeded),
        (403, "unable to create new content in namespace n because it is being terminated", ProviderUnavailable),
        (403, "violates PodSecurity restricted", ProvisioningFailed),
        (422, "spec.containers[0].image: Required value", ProvisioningFailed),
        (400, "quantities must match the regular expression", ProvisioningFailed),
    ],
)
async def test_what_a_refusal_means_for_a_workspace(
    cluster: Cluster, script: Script, code: int, message: str, failure: type[Exception]
) -> None:
    script.refusals = [(code, message)]
    with pytest.raises(Refused) as refused:
        await cluster.find(PODS, "n", "p")
    found = refused.value.as_failure()
    assert isinstance(found, failure)
    assert message in str(found)


async def test_lists_are_read_to_their_end(script: Script, cluster: Cluster) -> None:
    pages = iter([("a", [pod("1")]), ("b", [pod("2")]), ("", [pod("3")])])

    async def answer(request: web.Request) -> web.StreamResponse:
        after, items = next(pages)
        return web.json_response({"metadata": {"resourceVersion": "9", "continue": after}, "items": items})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        script.url = str(server.make_url("/")).rstrip("/")
        found = await cluster.labelled(PODS, "a=b")
    assert [one["metadata"]["resourceVersion"] for one in found] == ["1", "2", "3"]
