"""The local stack: starts the emulators, the gateway and the functions, watches them, and ends them.

    async with Stack(Settings.from_environment()) as stack:
        ...                            # stack.base_url answers
        raise await stack.failure()    # when one of its processes ends by itself

Nothing outlives it: not on leaving, not after an error at its start, not when this process is killed.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from infra.local import home, ports, storage, tools
from infra.local.children import Child, ChildFailed, Children, Program
from infra.local.firestore import choose, gone, running
from infra.local.ports import HOST
from infra.local.settings import ANY_PORTS, PROJECT, Settings

if TYPE_CHECKING:
    from infra.emulators.firestore_official import OfficialEmulator

READY_TIMEOUT_S = 60.0

CLOUD = {
    "GOOGLE_CLOUD_PROJECT": "onmemos-local",
    "ONMEMOS_LOCATION": "us-central1",
    "ONMEMOS_IMAGE": "onmemos/workspace-{template}:local",
    "ONMEMOS_TASK_ACCOUNT": "tasks@onmemos-local.iam.gserviceaccount.com",
    "ONMEMOS_CLOSED_SUBNETWORK": "projects/onmemos-local/regions/us-central1/subnetworks/closed",
    "ONMEMOS_FILESTORE_SUBNETWORK": "projects/onmemos-local/regions/us-central1/subnetworks/filestore",
    "ONMEMOS_WORKSTATIONS_CLUSTER": "projects/onmemos-local/locations/us-central1/workstationClusters/onmemos",
}
LOOPBACK = "127.0.0.1,localhost"

Tell = Callable[[str, bool], None]
"""Called with a process' name when it is started (False) and when it is ready (True)."""


class NotReady(Exception):
    """Some processes did not come up in time; the message names them."""


class Stack:
    """One stack in one home. `environment` is what `<home>/env` holds; `ready_s` is how long the start took.

    Entering raises ConfigError, HomeTaken, PortTaken, ChildFailed, NotReady; what was started by then has ended.
    """

    def __init__(self, settings: Settings, tell: Tell = lambda name, ready: None) -> None:
        self.settings = settings
        self.environment: dict[str, str] = {}
        self.ready_s = 0.0
        self.sandbox: dict[str, str] = {}  # what isolates sessions here, as their details say it
        self._official = ""  # where Google's Firestore is, if the stack has that
        self._tell = tell
        self._closing = AsyncExitStack()

    @property
    def base_url(self) -> str:
        """The gateway's URL."""
        return self.environment["ONMEMOS_URL"]

    @property
    def api_key(self) -> str:
        """The key that the API takes."""
        return self.settings.api_key

    @property
    def home(self) -> Path:
        """All that outlives the stack."""
        return self.settings.home

    @property
    def official_firestore(self) -> bool:
        """Whether Firestore is Google's emulator, rather than our own."""
        return bool(self._official)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._closing.aclose()

    async def failure(self) -> ChildFailed:
        """Wait until one of the processes ends by itself."""
        watches = [asyncio.create_task(self._children.first_failure())]
        if self._official:
            watches.append(asyncio.create_task(gone(self._official)))
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for watch in watches:
                watch.cancel()

    async def _start(self) -> None:
        began = time.monotonic()
        settings = self.settings
        wanted = settings.ports
        self._templates = tools.templates(settings.templates_file)
        lock = self._closing.enter_context(home.claimed(settings))
        with closing(ports.listen(wanted, "gateway")) as gateway, closing(ports.listen(wanted, "functions")) as pushes:
            storage_port, storage_server = ports.free(wanted, "storage"), ports.free(ANY_PORTS, "storage")
            for name in ("emulators", "http", "kubernetes", "workstations"):
                ports.free(wanted, name)
            self._environment(gateway.getsockname()[1], pushes.getsockname()[1], storage_port)
            # Google's Firestore keeps its documents when it ends: after everything that writes them.
            firestore = await self._closing.enter_async_context(AsyncExitStack())
            leftovers = (settings.env_file, settings.runtime)
            children = Children(settings.logs, leftovers, (lock,))
            self._children = await self._closing.enter_async_context(children)
            official = await choose(settings)
            storage.sweep(settings.buckets, settings.uploads)
            folders = (settings.buckets, settings.uploads)
            await self._started(storage.program(storage_server, storage_port, *folders, self._inherited))
            emulators = await self._started(
                self._emulators(storage_port, f"http://{HOST}:{storage_server}", embedded=official is None)
            )
            # The last to start is the first to end: it calls the others.
            serve = await self._started(self._serve(gateway.fileno(), pushes.fileno()))
        home.keep_ticket_key(settings.ticket_key)
        await self._unless_one_ends(
            self._read_emulators(emulators),
            self._reached("storage", storage_server),
            self._enter_firestore(firestore, official),
        )
        await serve.tell(json.dumps(self.environment).encode())
        await self._unless_one_ends(self._read_serve(serve))
        home.write_env(settings.env_file, self.environment)
        self.ready_s = time.monotonic() - began

    async def _started(self, program: Program) -> Child:
        self._tell(program.name, False)
        return await self._children.start(program)

    def _environment(self, gateway_port: int, functions_port: int, storage_port: int) -> None:
        """What is known before anything runs."""
        self.environment |= CLOUD
        self.environment |= {
            "ONMEMOS_URL": f"http://{HOST}:{gateway_port}",
            "ONMEMOS_API_KEY": self.settings.api_key,
            "ONMEMOS_FUNCTION_URL": f"http://{HOST}:{functions_port}/{{function}}",
            "ONMEMOS_TICKET_KEY_FILE": str(self.settings.ticket_key),
            "ONMEMOS_RELAY_URL": f"http://{HOST}:{gateway_port}",
            "STORAGE_EMULATOR_HOST": f"http://{HOST}:{storage_port}",
            "CLOUD_RUN_MODE": self.settings.cloud_run_mode,
            "ONMEMOS_ALLOWED_ORIGINS": self.settings.allowed_origins,
            "ONMEMOS_KUBECONFIG": str(self.settings.kubeconfig),
            "KUBECONFIG": str(self.settings.kubeconfig),  # kubectl's own
        }
        if self.settings.warm_pool:
            self.environment["ONMEMOS_GKE_WARM_POOL"] = self.settings.warm_pool
        if self.settings.templates_file is not None:
            self.environment["ONMEMOS_TEMPLATES_FILE"] = str(self.settings.templates_file)

    @property
    def _inherited(self) -> dict[str, str]:
        """The caller's environment, without what would lead the stack's processes to another deployment."""
        kept = {
            name: value
            for name, value in self.settings.inherited.items()
            if not name.startswith("ONMEMOS_") and not name.endswith("_EMULATOR_HOST")
        }
        proxies = [kept.get("NO_PROXY") or kept.get("no_proxy") or "", LOOPBACK]  # gRPC would ask a proxy for 127.0.0.1
        kept["NO_PROXY"] = kept["no_proxy"] = ",".join(filter(None, proxies))
        return kept

    def _serve(self, gateway_fd: int, functions_fd: int) -> Program:
        options = {"--gateway-fd": gateway_fd, "--functions-fd": functions_fd, "--sockets": self.settings.runtime}
        return self._python("serve", "infra.local.serve", options, fds=(gateway_fd, functions_fd))

    def _emulators(self, storage_port: int, storage_server: str, *, embedded: bool) -> Program:
        settings = self.settings
        options = {
            "--state": settings.state,
            "--sockets": settings.runtime,
            "--buckets": settings.buckets,
            "--gateway-url": self.base_url,
            "--grpc-port": settings.ports.emulators,
            "--http-port": settings.ports.http,
            "--workstations-port": settings.ports.workstations,
            "--kubernetes-port": settings.ports.kubernetes,
            "--kubeconfig": settings.kubeconfig,
            "--sandbox": settings.sandbox,
            "--egress": settings.egress,
            "--storage-port": storage_port,
            "--storage-server": storage_server,
            "--firestore-indexes": PROJECT / "firestore.indexes.json",
        }
        flags = {"--firestore": embedded, "--agent-sandbox": bool(settings.warm_pool)}
        return self._python(
            "emulators", "infra.emulators", options, *(flag for flag, wanted in flags.items() if wanted)
        )

    def _python(
        self, name: str, module: str, options: Mapping[str, object], *flags: str, fds: tuple[int, ...] = ()
    ) -> Program:
        words = [str(word) for option in options.items() for word in option]
        return Program(name, [sys.executable, "-m", module, *words, *flags], self._inherited, PROJECT, fds)

    async def _read_emulators(self, emulators: Child) -> None:
        said = json.loads(await emulators.line())
        self.environment |= {
            "CLOUD_RUN_EMULATOR_HOST": said["grpc"],
            "CLOUD_TASKS_EMULATOR_HOST": said["grpc"],
            "WORKSTATIONS_EMULATOR_HOST": said["grpc"],
            "ONMEMOS_WORKSTATIONS_URL": f"http://{said['workstations']}/{{host}}/{{port}}",
            "ONMEMOS_OIDC_CERTS_URL": f"http://{said['http']}/oauth2/v3/certs",
        }
        self.environment.setdefault("FIRESTORE_EMULATOR_HOST", said["grpc"])
        self.sandbox = said.get("sandbox", {})
        missing = tools.unavailable(self._templates, self.sandbox.get("isolation", ""))
        if missing:
            self.environment["ONMEMOS_UNAVAILABLE_TEMPLATES"] = quote(json.dumps(missing), safe="")
        self._tell("emulators", True)

    async def _read_serve(self, serve: Child) -> None:
        await serve.line()
        self._tell("serve", True)

    async def _reached(self, name: str, port: int) -> None:
        await storage.listening(port)
        self._tell(name, True)

    async def _enter_firestore(self, closing: AsyncExitStack, official: "OfficialEmulator | None") -> None:
        if official is None:
            return
        self._tell("firestore", False)
        project = CLOUD["GOOGLE_CLOUD_PROJECT"]
        address = await closing.enter_async_context(running(official, self.settings, project))
        self.environment["FIRESTORE_EMULATOR_HOST"] = self._official = address
        self._tell("firestore", True)

    async def _unless_one_ends(self, *steps: Coroutine[Any, Any, None]) -> None:
        """Wait for all the steps. Raises what the first of them raises, ChildFailed, NotReady."""
        ending = asyncio.create_task(self.failure())
        work = asyncio.ensure_future(asyncio.gather(*steps))
        both: set[asyncio.Future[Any]] = {ending, work}
        try:
            await asyncio.wait(both, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            elif ending.done():
                raise ending.result()
            else:
                raise NotReady(
                    f"the stack was not ready after {READY_TIMEOUT_S:g} s; its logs are in {self.settings.logs}"
                )
        finally:
            ending.cancel()
            work.cancel()
            await asyncio.gather(ending, work, return_exceptions=True)
