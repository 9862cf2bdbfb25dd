"""A Kubernetes cluster for tests: the emulator in this process on a port of its own, or the one of a kubeconfig.

ONMEMOS_TEST_KUBECONFIG names the latter, whose user may do everything; ONMEMOS_TEST_IMAGE an image for its Pods, which
has sh and python3 and by itself answers GET /health on PORT. Such a cluster may be an API server alone: no controller,
no scheduler, no node.
"""

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes.aio.client import ApiClient, Configuration

from infra.emulators.jwks import HttpServer
from infra.emulators.kubernetes import Kubernetes
from infra.emulators.kubernetes.objects import Objects
from shared.providers.gke_credentials import Kubeconfig

KUBECONFIG = os.environ.get("ONMEMOS_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("ONMEMOS_TEST_IMAGE", "")
TOKEN = "the-administrator"
PATIENCE_S = 30.0  # the first change waits for the schemas, on a machine that may be busy
AGENT_KEYS = '{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "' + "A" * 43 + '"}]}'
NO_NODE = "the cluster has no node that is ready"
NO_IMAGE = "no image was given that a Pod of the cluster could run: IMAGE=…"


def emulated(why: str) -> pytest.MarkDecorator:
    """A test of what only the emulator has, or lets a test arrange."""
    return pytest.mark.skipif(bool(KUBECONFIG), reason=f"of the emulator in this process alone: {why}")


@dataclass(frozen=True, slots=True)
class Cluster:
    """`http` comes as the kubeconfig's user unless a request says otherwise, `anonymous` as nobody; both know the URL.

    `api` is for the client's own API classes.
    """

    url: str
    kubeconfig: Path
    credentials: Kubeconfig
    tls: ssl.SSLContext | bool
    api: ApiClient
    http: httpx.AsyncClient
    anonymous: httpx.AsyncClient
    inside: Kubernetes | None = None

    @property
    def is_emulated(self) -> bool:
        """In this process. An emulator elsewhere is a cluster like any other."""
        return self.inside is not None

    @property
    def emulator(self) -> Kubernetes:
        if self.inside is None:
            pytest.skip("the cluster is not the emulator's")
        return self.inside

    @property
    def objects(self) -> Objects:
        return self.emulator.objects

    async def ready_nodes(self) -> list[str]:
        nodes = (await self.http.get("/api/v1/nodes")).raise_for_status().json()["items"]
        return [node["metadata"]["name"] for node in nodes if takes_pods(node)]

    async def has_controllers(self) -> bool:
        """Whether something makes accounts, ends namespaces and collects what is left behind."""
        answer = await self.http.get("/api/v1/namespaces/kube-system/serviceaccounts/default")
        return answer.status_code == httpx.codes.OK


@asynccontextmanager
async def cluster(folder: Path, **settings: Any) -> AsyncIterator[Cluster]:
    """The emulator. `folder` keeps its state, so opening it again is a restart; `settings` are Kubernetes' own."""
    async with Kubernetes(folder / "kubernetes.sqlite", token=TOKEN, **settings) as emulator:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        kubeconfig = folder / "kubeconfig"
        emulator.write_kubeconfig(kubeconfig, url)
        async with HttpServer(emulator.app, listener, **emulator.server_options), named(kubeconfig, emulator) as opened:
            try:
                yield opened
            finally:
                emulator.stop_streams()


@asynccontextmanager
async def named(kubeconfig: Path, inside: Kubernetes | None = None) -> AsyncIterator[Cluster]:
    """The cluster of the kubeconfig's current context."""
    credentials = Kubeconfig(kubeconfig)
    server = await credentials.server()

    async def come_as_user(request: httpx.Request) -> None:
        for name, value in (await credentials.headers()).items():
            request.headers.setdefault(name, value)

    async with AsyncExitStack() as stack:
        tls: ssl.SSLContext | bool = True if server.ssl is None else server.ssl
        unknown = True if server.ssl is None else _without_certificate(server.ssl)
        api = await stack.enter_async_context(await _client(credentials))
        http, anonymous = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=server.url, verify=trust, timeout=PATIENCE_S, event_hooks={"request": hooks})
            )
            for trust, hooks in ((tls, [come_as_user]), (unknown, []))
        ]
        yield Cluster(server.url, kubeconfig, credentials, tls, api, http, anonymous, inside)


async def _client(credentials: Kubeconfig) -> ApiClient:
    server = await credentials.server()
    configuration: Any = Configuration(host=server.url)

    async def renew(configuration: Any) -> None:
        configuration.api_key["BearerToken"] = (await credentials.headers()).get("Authorization", "")

    if await credentials.headers():
        await renew(configuration)
        configuration.refresh_api_key_hook = renew
    client = ApiClient(configuration)
    if server.ssl is not None:
        client.rest_client.ssl_context = server.ssl
    return client


def _without_certificate(trust: ssl.SSLContext) -> ssl.SSLContext:
    """Whom to trust, and nothing that says who we are."""
    context = ssl.create_default_context()
    if authorities := trust.get_ca_certs(binary_form=True):
        context.load_verify_locations(cadata=b"".join(authorities))
    context.verify_flags = trust.verify_flags
    context.check_hostname = trust.check_hostname
    context.verify_mode = trust.verify_mode
    return context


def takes_pods(node: dict[str, Any]) -> bool:
    conditions = {one["type"]: one["status"] for one in node.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and not node["spec"].get("unschedulable")
