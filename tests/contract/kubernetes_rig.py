"""The Kubernetes emulator in this process on a port of its own, with the client that the control plane uses."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from kubernetes.aio.client import ApiClient, Configuration

from infra.emulators.jwks import HttpServer
from infra.emulators.kubernetes import Kubernetes
from infra.emulators.kubernetes.objects import Objects

TOKEN = "the-administrator"
PATIENCE_S = 30.0  # the first change waits for the schemas, on a machine that may be busy


@dataclass(frozen=True, slots=True)
class Cluster:
    """`http` sends the administrator's token, and knows the URL; `api` is for the client's own API classes."""

    emulator: Kubernetes
    url: str
    token: str
    api: ApiClient
    http: httpx.AsyncClient

    @property
    def objects(self) -> Objects:
        return self.emulator.objects

    def kubeconfig(self, folder: Path) -> Path:
        """The path of a kubeconfig that leads here."""
        path = folder / "kubeconfig"
        path.write_text(self.emulator.kubeconfig(self.url))
        return path


@asynccontextmanager
async def cluster(folder: Path, **settings: Any) -> AsyncIterator[Cluster]:
    """`folder` keeps its state, so opening it again is a restart; `settings` are Kubernetes' own."""
    async with Kubernetes(folder / "kubernetes.sqlite", token=TOKEN, **settings) as emulator:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with HttpServer(emulator.app, listener, **emulator.server_options):
            authority = str(emulator.certificates.authority)
            configuration = Configuration(host=url)
            configuration.api_key = {"authorization": f"Bearer {TOKEN}"}
            configuration.ssl_ca_cert = authority
            headers, trust = {"Authorization": f"Bearer {TOKEN}"}, ssl.create_default_context(cafile=authority)
            async with (
                ApiClient(configuration) as api,
                httpx.AsyncClient(base_url=url, headers=headers, verify=trust, timeout=PATIENCE_S) as http,
            ):
                try:
                    yield Cluster(emulator, url, TOKEN, api, http)
                finally:
                    emulator.stop_streams()
