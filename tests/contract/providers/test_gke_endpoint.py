"""A cluster by its name in Google Cloud, against a stand-in of the Kubernetes Engine API."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.errors import ProviderUnavailable
from shared.providers.gke_credentials import Token
from shared.providers.gke_endpoint import GkeCluster

NAME = "projects/p/locations/l/clusters/c"


@dataclass
class ContainerApi:
    """Answers `status` and `body` to every request, and keeps what was asked."""

    body: object = field(
        default_factory=lambda: {"controlPlaneEndpointsConfig": {"dnsEndpointConfig": {"endpoint": "gke-1.gke.goog"}}}
    )
    status: int = 200
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers["Authorization"]))
        return web.Response(status=self.status, text=json.dumps(self.body), content_type="application/json")


@pytest.fixture
async def api() -> AsyncIterator[ContainerApi]:
    stub = ContainerApi()
    app = web.Application()
    app.router.add_get("/{path:.*}", stub.answer)
    async with TestServer(app) as server:
        stub.url = str(server.make_url("/")).rstrip("/")
        yield stub


async def token() -> Token:
    return Token("google-token")


async def test_the_endpoint_is_asked_for_once_and_publicly_trusted(api: ContainerApi) -> None:
    cluster = GkeCluster(NAME, token, container_api=api.url)
    server = await cluster.server()
    assert (server.url, server.ssl) == ("https://gke-1.gke.goog", None)
    assert await cluster.server() is server
    assert api.asked == [(f"/v1/{NAME}", "Bearer google-token")]
    assert await cluster.headers() == {"Authorization": "Bearer google-token"}


async def test_a_cluster_without_a_dns_endpoint_says_what_is_wanted(api: ContainerApi) -> None:
    api.body = {"controlPlaneEndpointsConfig": {}}
    with pytest.raises(ProviderUnavailable, match="--enable-dns-access"):
        await GkeCluster(NAME, token, container_api=api.url).server()


async def test_a_refusal_is_told_in_googles_words_and_asked_again(api: ContainerApi) -> None:
    good, api.body, api.status = api.body, {"error": {"message": "Permission denied on c"}}, 403
    cluster = GkeCluster(NAME, token, container_api=api.url)
    with pytest.raises(ProviderUnavailable, match=r"403 .*Permission denied on c"):
        await cluster.server()
    api.body, api.status = good, 200
    assert (await cluster.server()).url == "https://gke-1.gke.goog"


async def test_an_api_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(ProviderUnavailable, match="did not answer"):
        await GkeCluster(NAME, token, container_api="http://127.0.0.1:9").server()
