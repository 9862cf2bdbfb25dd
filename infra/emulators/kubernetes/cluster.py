"""The cluster as one thing to open and close: objects, API server, node, controllers."""

import contextlib
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from starlette.types import ASGIApp

from infra.emulators.kubernetes import kinds
from infra.emulators.kubernetes.admission import Admission
from infra.emulators.kubernetes.app import ApiServer
from infra.emulators.kubernetes.certificates import Certificates, write_private
from infra.emulators.kubernetes.definition_cleanup import DefinitionCleanup
from infra.emulators.kubernetes.history import WINDOW
from infra.emulators.kubernetes.identity import kept_token
from infra.emulators.kubernetes.kubeconfig import kubeconfig
from infra.emulators.kubernetes.node import THIS_MACHINE, Capacity, Node
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.podaccess import PodAccess
from infra.emulators.kubernetes.quota_status import QuotaStatus
from infra.emulators.kubernetes.statuses import AlreadyExists
from infra.emulators.run.specs import Folders
from infra.sandbox.spec import Runtime
from shared.websocket_server import SERVER

# What every cluster begins with.
_FIRST: Final[tuple[tuple[kinds.Kind, dict[str, Any]], ...]] = (
    *((kinds.NAMESPACES, {"metadata": {"name": name}}) for name in ("default", "kube-system", "kube-public")),
    (kinds.NAMESPACES, {"metadata": {"name": "kube-node-lease"}}),
    (
        kinds.PRIORITY_CLASSES,
        {
            "metadata": {"name": "system-cluster-critical"},
            "value": 2_000_000_000,
            "description": "Used for system critical pods that must run in the cluster, but can be moved to another "
            "node if necessary.",
        },
    ),
    (
        kinds.PRIORITY_CLASSES,
        {
            "metadata": {"name": "system-node-critical"},
            "value": 2_000_001_000,
            "description": "Used for system critical pods that must not be moved from their current node.",
        },
    ),
    (
        kinds.STORAGE_CLASSES,
        {
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "emulator.onmemos.dev/folder",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
    ),
    (kinds.RUNTIME_CLASSES, {"metadata": {"name": "gvisor"}, "handler": "gvisor"}),
)


class Kubernetes:
    """`path` keeps the objects; `token` is the administrator's ("": one that is made once and kept beside `path`).

    `runtime` None: an API server alone, whose Pods stay pending. `folders` holds what Pods mount: buckets, NFS shares,
    and their own volumes.

    `agent_sandbox`: with the CustomResourceDefinitions of Agent Sandbox, and their controller. `capacity`: the node's.
    """

    def __init__(
        self,
        path: Path,
        *,
        token: str = "",
        runtime: Runtime | None = None,
        folders: Folders | None = None,
        agent_sandbox: bool = False,
        capacity: Capacity = THIS_MACHINE,
        window: int = WINDOW,
    ) -> None:
        self._admission = Admission()
        self.objects = Objects(path, rules=self._admission, window=window)
        self._admission.attach(self.objects)
        self._token = token or kept_token(path.parent / "token")
        self._server = ApiServer(self.objects, token=self._token)
        self.certificates = Certificates(path.parent / "certificates")
        self._path = path
        self._runtime = runtime
        self._folders = folders or Folders(path.parent / "buckets", path.parent / "filestore", path.parent / "scratch")
        self._agent_sandbox = agent_sandbox
        self._capacity = capacity
        self._stack = AsyncExitStack()

    @property
    def app(self) -> ASGIApp:
        return self._server

    @property
    def server_options(self) -> dict[str, Any]:
        """uvicorn's: TLS, without which kubectl sends no token, and WebSockets."""
        return {
            "ssl_certfile": str(self.certificates.certificate),
            "ssl_keyfile": str(self.certificates.key),
            **SERVER,
            "ws": "infra.emulators.kubernetes.websocket_protocol:Protocol",
            "ws_max_size": 16 << 20,  # a Pod decides about what it is sent
        }

    def kubeconfig(self, url: str) -> str:
        """The administrator's."""
        return kubeconfig(url, self._token, authority=self.certificates.authority_pem)

    def write_kubeconfig(self, path: Path, url: str) -> None:
        """For the owner of this process only."""
        write_private(path, self.kubeconfig(url).encode())

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self.objects.close)
            for kind, obj in _FIRST:
                await self._ensure(kind, obj)
            if self._agent_sandbox:  # imported by those who use it only
                from infra.emulators.kubernetes.agent_sandbox_definitions import DEFINITIONS

                for definition in DEFINITIONS:
                    await self._ensure(kinds.CUSTOM_RESOURCE_DEFINITIONS, definition)
            await stack.enter_async_context(QuotaStatus(self.objects))
            await stack.enter_async_context(DefinitionCleanup(self.objects))
            if self._runtime is not None:
                await self._open_node(stack, self._runtime)
            if self._agent_sandbox:
                from infra.emulators.kubernetes.agent_sandbox import AgentSandbox

                await stack.enter_async_context(AgentSandbox(self.objects))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_streams()
        await self._stack.aclose()

    def stop_streams(self) -> None:
        """End the watches; to be called before the HTTP server is closed, which waits for its answers."""
        self._server.stop_streams()

    async def _open_node(self, stack: AsyncExitStack, runtime: Runtime) -> None:
        state = self._path.with_suffix(".node")
        node = Node(
            self.objects,
            runtime,
            state=state,
            folders=self._folders,
            token=self._server.account_token,
            certificate=self.certificates.authority_pem,
            capacity=self._capacity,
        )
        await stack.enter_async_context(node)
        await stack.enter_async_context(PodAccess(self.objects, node.kubelet, node.logs, self._server))

    async def _ensure(self, kind: kinds.Kind, obj: dict[str, Any]) -> None:
        with contextlib.suppress(AlreadyExists):
            await self.objects.create(kind, obj)
