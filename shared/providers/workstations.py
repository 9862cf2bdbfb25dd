"""Workspaces as Cloud Workstations: one workstation per session, with a disk that outlives its stops."""

import asyncio
import re
import shlex
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
from google.api_core import exceptions
from google.api_core.retry import if_exception_type
from google.api_core.retry_async import AsyncRetry
from google.cloud import workstations_v1
from google.cloud.workstations_v1 import types

from shared import names
from shared.cloud import reason, unavailable
from shared.errors import (
    InvalidRequest,
    OnMemOSError,
    ProvisioningFailed,
    QuotaExceeded,
    WorkspaceUnreachable,
)
from shared.models import DATA_PATH, ProviderName, Session
from shared.passage import http_client
from shared.pauses import Pauses
from shared.providers.base import Access, Address, Condition, Health, Wanted, Workspace
from shared.providers.workstation_lives import Lives
from shared.providers.workstation_tokens import WorkstationTokens, utc_now

SESSION_LABEL = "onmemos-session"
AGENT_PORT = 8080
SSH_PORT = 22
CALL_TIMEOUT_S = 30.0
PATIENCE_S = 10.0  # for a cloud API that says UNAVAILABLE: a blip passes, and no caller waits long for an outage
DOOR_TIMEOUT_S = 60.0  # from a workstation that runs to an agent that answers
DOOR_ATTEMPT = aiohttp.ClientTimeout(total=5.0)
OK = 200
GIB = 1 << 30
_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")  # of configs and workstations
# google.rpc.Code of operations that failed in a way that may pass: CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, ABORTED,
# INTERNAL, UNAVAILABLE.
TRANSIENT = frozenset({1, 2, 4, 10, 13, 14})
EXHAUSTED = 8
_State: Any = types.Workstation.State


@dataclass(frozen=True, slots=True)
class WorkstationsSettings:
    """`cluster`: projects/P/locations/L/workstationClusters/C. `config`: the id of a config, may hold {template}.

    `url` is where a workstation is reached, with {port} and {host}. `cpu`, `memory_bytes`: of the configs' machine.
    The configs keep /workspace on their persistent directory, and run the agent's image.
    """

    cluster: str
    config: str
    url: str = "https://{port}-{host}"
    cpu: float = 2.0
    memory_bytes: int = 8 * GIB


class Workstations:
    """The Provider on Cloud Workstations' v1 API. `client` is opened on the first call and is the caller's to close."""

    name = ProviderName.WORKSTATIONS
    ssh = True
    price_share = 1.0

    def __init__(
        self,
        client: Callable[[], workstations_v1.WorkstationsAsyncClient],
        settings: WorkstationsSettings,
        *,
        clock: Callable[[], datetime] = utc_now,
        patience_s: float = PATIENCE_S,
        door_timeout_s: float = DOOR_TIMEOUT_S,
    ) -> None:
        self._client = client
        self._settings = settings
        self._door_timeout_s = door_timeout_s
        blips = if_exception_type(exceptions.ServiceUnavailable)
        self._wait: dict[str, Any] = {
            "timeout": CALL_TIMEOUT_S,
            "retry": AsyncRetry(blips, initial=0.1, maximum=2.0, timeout=patience_s),
        }
        self._lives = Lives(client, self._wait)
        self._tokens = WorkstationTokens(client, self._wait, clock)
        pattern = re.escape(settings.config).replace(re.escape("{template}"), "[a-z0-9-]+")
        self._configs = re.compile(f"{re.escape(settings.cluster)}/workstationConfigs/{pattern}")

    def check(self, wanted: Wanted) -> None:
        settings, resources, storage = self._settings, wanted.resources, wanted.storage
        config = settings.config.format(template=wanted.template)
        machine = "the machine of its configs"
        gib = settings.memory_bytes / GIB
        mounts = "a workstation has its own disk at /workspace, and nothing is mounted"
        for wrong, field, complaint in (
            (
                _ID.fullmatch(config) is None,
                "template",
                f"got '{wanted.template}', wanted one whose config can be called '{config}' on workstations",
            ),
            (
                resources.cpu > settings.cpu,
                "resources.cpu",
                f"got {resources.cpu:g}, wanted at most {settings.cpu:g} on workstations: {machine}",
            ),
            (
                resources.memory_bytes > settings.memory_bytes,
                "resources.memory",
                f"got {resources.memory_bytes >> 20}Mi, wanted at most {gib:g}Gi on workstations: {machine}",
            ),
            (
                not wanted.egress,
                "network.egress",
                "got false, wanted true on workstations: their network is the cluster's",
            ),
            (
                storage.bucket is not None,
                "storage.bucket",
                f"got '{storage.bucket}', wanted none on workstations: {mounts}",
            ),
            (
                storage.mount_path != DATA_PATH,
                "storage.mount_path",
                f"got '{storage.mount_path}', wanted none on workstations: {mounts}",
            ),
            (storage.keep, "storage.keep", f"got true, wanted false on workstations: {mounts}"),
            (
                storage.filestore is not None,
                "storage.filestore",
                f"got {storage.filestore and storage.filestore.ip}, wanted none on workstations: {mounts}",
            ),
        ):
            if wrong:
                raise InvalidRequest.field(field, complaint)

    def access(self, session: Session) -> Access:
        name = session.details.get("workstation")
        if name is None:
            return Access()
        _, project, _, region, _, cluster, _, config, _, workstation = name.split("/")
        flags = [f"--project={project}", f"--region={region}", f"--cluster={cluster}", f"--config={config}"]
        tunnel = ["start-tcp-tunnel", *flags, "--local-host-port=localhost:2222", workstation, str(SSH_PORT)]
        return Access(
            ssh={
                "command": shlex.join(["gcloud", "workstations", "ssh", *flags, workstation]),
                "tunnel": shlex.join(["gcloud", "workstations", *tunnel]),
                "host": session.details.get("host", ""),
                "workstation": name,
            }
        )

    async def address(self, session: Session) -> Address:
        name = session.details.get("workstation")
        if session.url is None or name is None:
            raise WorkspaceUnreachable(f"the workspace of {session.id} has no address")
        token = await self._tokens.of(name, session.details.get("workstation_uid", ""))
        return Address(session.url, {"Authorization": f"Bearer {token}"})

    def keeps_files(self, session: Session) -> bool:
        return True

    async def create(self, session: Session, env: dict[str, str], bucket: str) -> Workspace:
        config = self._settings.config.format(template=session.template)
        parent = f"{self._settings.cluster}/workstationConfigs/{config}"
        wanted = types.Workstation(
            name=f"{parent}/workstations/{names.service_name(session.id)}",
            display_name=session.id,
            labels={**session.labels, SESSION_LABEL: session.id},
            env={**env, "PORT": str(AGENT_PORT)},  # the platform says it to nobody, and the agent wants to know
        )
        try:
            workstation = await self._lives.running(parent, wanted)
        except (exceptions.GoogleAPIError, TimeoutError) as exc:
            raise _translated(exc) from exc
        url = self._settings.url.format(port=AGENT_PORT, host=workstation.host)
        await self._answering(url, workstation)
        return Workspace(
            url,
            {
                "workstation": workstation.name,
                "workstation_uid": workstation.uid,
                "config": config,
                "host": workstation.host,
                "bucket_name": bucket,
            },
        )

    async def stop(self, session_id: str) -> None:
        try:
            for workstation in await self._found(session_id):
                await self._lives.stopped(workstation.name)
        except (exceptions.GoogleAPIError, TimeoutError) as exc:
            raise unavailable("Cloud Workstations", exc) from exc

    async def inspect(self, session_id: str) -> Condition:
        try:
            found = await self._found(session_id)
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Workstations", exc) from exc
        return _condition(found[0]) if found else Condition(Health.GONE, "its workstation does not exist")

    async def delete(self, session_id: str) -> None:
        try:
            for workstation in await self._found(session_id):
                await self._lives.deleted(workstation.name)
        except (exceptions.GoogleAPIError, TimeoutError) as exc:
            raise unavailable("Cloud Workstations", exc) from exc

    async def session_ids(self) -> AsyncIterator[str]:
        everywhere = f"{self._settings.cluster}/workstationConfigs/-"
        try:
            workstations = await self._client().list_workstations(parent=everywhere, **self._wait)
            async for workstation in workstations:
                config, _, workstation_id = workstation.name.rpartition("/workstations/")
                session_id = workstation.labels.get(SESSION_LABEL)
                if not session_id or workstation_id != names.service_name(session_id):
                    continue
                if self._configs.fullmatch(config):
                    yield session_id
        except exceptions.GoogleAPIError as exc:
            raise unavailable("Cloud Workstations", exc) from exc

    async def _found(self, session_id: str) -> list[types.Workstation]:
        """The session's workstation, which is in one of the configs; none, when there is none."""
        if "{template}" in self._settings.config:
            listed = await self._client().list_workstation_configs(parent=self._settings.cluster, **self._wait)
            configs = [config.name async for config in listed if self._configs.fullmatch(config.name)]
        else:
            configs = [f"{self._settings.cluster}/workstationConfigs/{self._settings.config}"]
        own = names.service_name(session_id)
        found = await asyncio.gather(*(self._lives.get(f"{config}/workstations/{own}") for config in configs))
        return [workstation for workstation in found if workstation is not None]

    async def _answering(self, url: str, workstation: types.Workstation) -> None:
        """Return when the agent answers through the front door: a workstation may run a moment before its server."""
        pauses = Pauses(self._door_timeout_s, asyncio.sleep)
        async with http_client(aiohttp.TCPConnector(limit=1)) as client:
            while True:
                token = await self._tokens.of(workstation.name, workstation.uid)
                seen = await _knock(client, f"{url}/health", token)
                if not seen:
                    return
                if not await pauses.next():
                    raise ProvisioningFailed(
                        f"workstation {workstation.name} runs, but its agent did not answer on port {AGENT_PORT} "
                        f"within {self._door_timeout_s:g} s: {seen}"
                    )


async def _knock(client: aiohttp.ClientSession, url: str, token: str) -> str:
    """What is wrong with the answer; "" for nothing."""
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with client.get(url, headers=headers, timeout=DOOR_ATTEMPT, allow_redirects=False) as response:
            return "" if response.status == OK else f"it answered {response.status}"
    except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
        return repr(exc)


def _condition(workstation: types.Workstation) -> Condition:
    if workstation.delete_time:
        return Condition(Health.GONE, "its workstation is being deleted")
    match workstation.state:
        case _State.STATE_RUNNING:
            return Condition(Health.READY)
        case _State.STATE_STARTING:
            return Condition(Health.STARTING, "its workstation is starting")
        case _State.STATE_STOPPING:
            return Condition(Health.STOPPED, "its workstation is being stopped")
        case _:
            return Condition(Health.STOPPED, "its workstation is stopped: on request, or by a timeout of its config")


def _translated(exc: Exception) -> OnMemOSError:
    """Errors of operations have no class of their own: only google.rpc's code says what they are."""
    status = getattr(exc, "grpc_status_code", None)
    code = status.value[0] if status else next((error.code for error in getattr(exc, "errors", ())), 0)
    if code == EXHAUSTED:
        return QuotaExceeded(f"Cloud Workstations refused the workspace: {reason(exc)}")
    if code in TRANSIENT or not isinstance(exc, exceptions.GoogleAPICallError):
        return unavailable("Cloud Workstations", exc)
    return ProvisioningFailed(f"Cloud Workstations could not start the workspace: {reason(exc)}")
