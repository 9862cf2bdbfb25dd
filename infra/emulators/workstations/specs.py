"""What a start of a workstation asks of a sandbox: variables, mounts, limits, and when it is ready."""

from dataclasses import dataclass
from pathlib import Path

from google.cloud.workstations_v1 import types

from infra.emulators.run.keeper import Wanted
from infra.emulators.run.probe import StartupProbe
from infra.emulators.workstations import machines
from infra.emulators.workstations.resources import is_kept
from infra.emulators.workstations.storage import Stored
from infra.sandbox.folders import delete_tree
from infra.sandbox.spec import AGENT_SOCKET, Attendance, ContainerSpec, Mount


@dataclass(frozen=True, slots=True)
class Readiness(StartupProbe):
    """All checks succeed; where there are none, a container that has started is ready."""

    checks: tuple[StartupProbe, ...] = ()

    async def succeeds(self, socket: Path) -> bool:
        for check in self.checks:
            if not await check.succeeds(socket):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Folders:
    """On the host: `root`/disks/<container> is the persistent directory, `root`/ephemeral/<container>/<n> a fresh one.

    All methods block: call them from a thread.
    """

    root: Path

    def mounts(self, stored: Stored, config: types.WorkstationConfig) -> tuple[Mount, ...]:
        """What is mounted, made where it is missing."""
        fresh = [
            Mount(self._made(self._ephemeral(stored.container) / str(index)), one.mount_path, one.gce_pd.read_only)
            for index, one in enumerate(config.ephemeral_directories)
        ]
        kept = [
            Mount(self._made(self._disk(stored.container)), one.mount_path)
            for one in stored.disks.persistent_directories
        ]
        return (*kept, *fresh)

    def clean(self, container: str) -> None:
        """Remove what does not outlive a stop."""
        delete_tree(self._ephemeral(container))

    def remove(self, stored: Stored) -> None:
        """Remove what does not outlive the workstation."""
        self.clean(stored.container)
        if not any(is_kept(one) for one in stored.disks.persistent_directories):
            delete_tree(self._disk(stored.container))

    def _disk(self, container: str) -> Path:
        return self.root / "disks" / container

    def _ephemeral(self, container: str) -> Path:
        return self.root / "ephemeral" / container

    @staticmethod
    def _made(folder: Path) -> Path:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


def machine_type(config: types.WorkstationConfig, boost: str) -> str:
    """Raises KeyError: there is no boost config of that id."""
    instance = config.host.gce_instance
    if not boost:
        return str(instance.machine_type)
    return {one.id: str(one.machine_type) for one in instance.boost_configs}[boost]


def wanted_container(
    attempt: str, stored: Stored, config: types.WorkstationConfig, machine: str, folders: Folders
) -> Wanted:
    """The container of a workstation. Makes folders: call it from a thread.

    The workstation's variables are laid over those of its config, and WEB_HOST is the service's.
    """
    container = config.container
    spec = ContainerSpec(
        name=stored.container,
        image=container.image,
        env={
            **container.env,
            **stored.workstation.env,
            "WEB_HOST": stored.workstation.host,
            "ONMEMOS_AGENT_SOCKET": AGENT_SOCKET,
        },
        mounts=folders.mounts(stored, config),
        limits=machines.limits(machine),
        command=(*container.command, *container.args),
        attendance=Attendance.PLAIN,  # for the ports that are not the agent's
    )
    return Wanted(attempt, spec, Readiness(checks=tuple(_check(check) for check in config.readiness_checks)))


def _check(check: types.WorkstationConfig.ReadinessCheck) -> StartupProbe:
    return StartupProbe(path=check.path or "/")
