"""The ways into Pods, and their places in the API server."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from infra.emulators.kubernetes.app import ApiServer
from infra.emulators.kubernetes.kubelet import Kubelet
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.pod_containers import Logs
from infra.emulators.kubernetes.podproxy import PodProxy
from infra.emulators.kubernetes.portforward import PortForward
from infra.emulators.kubernetes.streaming import Streaming


class PodAccess:
    """An async context manager."""

    def __init__(self, objects: Objects, kubelet: Kubelet, logs: Path, server: ApiServer) -> None:
        streaming = Streaming(kubelet)
        self._proxy = PodProxy(objects, kubelet)
        server.subresource("pods", "proxy", self._proxy.pod)
        server.subresource("pods", "exec", streaming.exec)
        server.subresource("pods", "attach", streaming.attach)
        server.subresource("pods", "portforward", PortForward(kubelet).forward)
        server.subresource("pods", "log", Logs(kubelet, logs).log)
        server.subresource("services", "proxy", self._proxy.service)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "PodAccess":
        await self._stack.enter_async_context(self._proxy)
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._stack.aclose()
