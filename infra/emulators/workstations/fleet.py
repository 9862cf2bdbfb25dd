"""The workstations that exist and their containers: what a request asks for is stored, and made true, here."""

import asyncio
import dataclasses
import datetime
import logging
import secrets
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from google.api_core import exceptions
from google.cloud.workstations_v1 import types

from infra.emulators.run.containers import Containers, Superseded
from infra.emulators.run.deletions import Deletions
from infra.emulators.run.keeper import Observed, Phase, StartFailed, Wanted
from infra.emulators.run.opened import Opened
from infra.emulators.workstations.names import id_of, parent_of
from infra.emulators.workstations.resources import State, changed, in_state
from infra.emulators.workstations.specs import Folders, machine_type, wanted_container
from infra.emulators.workstations.storage import Group, Storage, Stored
from infra.sandbox.spec import Runtime

log = logging.getLogger(__name__)

Work = asyncio.Task[types.Workstation]
T = TypeVar("T")


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Fleet(Opened):
    """All clusters, configs and workstations by name; kept in memory and, written through, in a SQLite file.

    Opening it starts again what ran; leaving stops the containers. What a container does meanwhile shows on its
    workstation at once: one whose container is down is never running.
    """

    def __init__(self, path: Path, runtime: Runtime, clock: Callable[[], datetime.datetime]) -> None:
        self._storage = Storage(path)
        self._folders = Folders(path.parent / "workstations")
        self._clock = clock
        self._containers = Containers(runtime, self._observe)
        self.clusters: dict[str, types.WorkstationCluster] = {}
        self.configs: dict[str, types.WorkstationConfig] = {}
        self.workstations: dict[str, Stored] = {}
        self._names: dict[str, str] = {}  # container -> workstation
        self._hosts: dict[str, str] = {}  # host -> workstation
        self._attempts: dict[str, str] = {}  # workstation -> the start that it runs by, or will
        self._first: set[str] = set()  # of them, those that have not been ready yet
        self._traffic: dict[str, datetime.datetime] = {}  # workstation -> its last, while it runs
        self._works: set[asyncio.Task[Any]] = set()
        self._deletions = Deletions()

    async def _open(self, opening: AsyncExitStack) -> None:
        await opening.enter_async_context(self._storage)
        await opening.enter_async_context(self._containers)
        await opening.enter_async_context(self._deletions)
        opening.push_async_callback(self._end_works)
        self.clusters |= {one.name: one for one in await self._storage.load(types.WorkstationCluster)}
        self.configs |= {one.name: one for one in await self._storage.load(types.WorkstationConfig)}
        for stored in await self._storage.load_workstations():
            self._take_in(stored)
        for stored in list(self.workstations.values()):
            await self._resume(stored)

    def at_host(self, host: str) -> Stored | None:
        """The workstation that is reached there."""
        return self.workstations.get(self._hosts.get(host, ""))

    def is_host_free(self, host: str) -> bool:
        return host not in self._hosts

    def note_traffic(self, name: str) -> None:
        """Somebody uses the workstation."""
        if name in self._traffic:
            self._traffic[name] = self._clock()

    def save(self, group: Group) -> asyncio.Task[Group]:
        """Set a cluster or a config at once; the task ends when it is written."""
        self._of_kind(group)[group.name] = group
        return self._work(self._written(group, self._storage.save(group)), f"writing of {group.name}")

    def forget(self, group: Group) -> asyncio.Task[Group]:
        """Remove a cluster or a config that is empty."""
        self._of_kind(group).pop(group.name, None)
        return self._work(self._written(group, self._storage.delete(group.name)), f"removal of {group.name}")

    def add(self, workstation: types.Workstation) -> Work:
        """Take in one that did not exist, stopped; the task ends when it is written."""
        name = workstation.name
        config = self.configs[parent_of(name)]
        disks = types.WorkstationConfig(persistent_directories=config.persistent_directories)
        container = f"wst-{secrets.token_hex(6)}"
        self._take_in(Stored(in_state(workstation, State.STATE_STOPPED, self._clock()), container, disks))
        return self._work(self._saved(name), f"creation of {name}")

    def change(self, workstation: types.Workstation) -> Work:
        """Set what a client may set; its container gets it when it is started next."""
        self._set(workstation)
        return self._work(self._saved(workstation.name), f"update of {workstation.name}")

    def begin_start(self, name: str, boost: str) -> Work:
        """The task ends when the workstation runs.

        It raises FailedPrecondition: the container did not start, and the workstation is stopped; Aborted: it was
        stopped or deleted meanwhile.
        """
        stored = dataclasses.replace(self.workstations[name], boost=boost)
        self.workstations[name] = stored
        self._set(in_state(stored.workstation, State.STATE_STARTING, self._clock()))
        return self._work(self._start(name, self._new_attempt(name)), f"start of {name}")

    def begin_stop(self, name: str) -> Work:
        """The task ends when the workstation is stopped."""
        self._halt(name)
        return self._work(self._stop(name), f"stop of {name}")

    def begin_deletion(self, name: str) -> Work:
        """From now on the workstation is as good as gone; the task ends when its container and folders are too."""
        if self.workstations[name].workstation.state != State.STATE_STOPPED:
            self._halt(name)
        deleted = types.Workstation(self.workstations[name].workstation)
        deleted.delete_time = self._clock()
        deleted.reconciling = True
        self._set(changed(deleted, self._clock()))
        return self._deletions.begin(name, self._delete(name))

    async def deleted(self, name: str) -> None:
        """Return when the workstation is gone. Raises what keeps it from going."""
        await asyncio.shield(self._deletions.under_way(name) or self.begin_deletion(name))

    async def deletion(self, name: str) -> None:
        """Wait for the deletion of a workstation that is under way, if there is one."""
        await self._deletions.ended(name)

    async def sweep(self) -> None:
        """Stop what nobody used for its config's idle_timeout, or what ran for its running_timeout."""
        over = {name: timeout for name in self._traffic if (timeout := self._timeout_of(name))}
        for name, timeout in over.items():
            log.info("a workstation's time is up", extra={"workstation": name, "timeout": timeout})
        if over:  # all begin at once: while one is awaited, others may be used again
            await asyncio.wait([self.begin_stop(name) for name in over])

    def _timeout_of(self, name: str) -> str:
        """Which of its config's timeouts has passed: "idle", "running" or "", none."""
        now, config = self._clock(), self.configs[parent_of(name)]
        for what, timeout, since in (
            ("idle", config.idle_timeout, self._traffic[name]),
            ("running", config.running_timeout, self.workstations[name].workstation.start_time),
        ):
            if timeout and now - since >= timeout:
                return what
        return ""

    def _take_in(self, stored: Stored) -> None:
        self.workstations[stored.workstation.name] = stored
        self._names[stored.container] = stored.workstation.name
        self._hosts[stored.workstation.host] = stored.workstation.name

    def _set(self, workstation: types.Workstation) -> None:
        stored = self.workstations[workstation.name]
        self.workstations[workstation.name] = dataclasses.replace(stored, workstation=workstation)

    async def _saved(self, name: str) -> types.Workstation:
        stored = self.workstations[name]
        await self._storage.save_workstation(stored)
        return stored.workstation

    def _new_attempt(self, name: str) -> str:
        attempt = secrets.token_hex(4)
        self._attempts[name] = attempt
        self._first.add(attempt)
        return attempt

    def _halt(self, name: str) -> None:
        """Whatever its container does from now on is not shown."""
        self._first.discard(self._attempts.pop(name, ""))
        self._traffic.pop(name, None)
        self._set(in_state(self.workstations[name].workstation, State.STATE_STOPPING, self._clock()))

    async def _start(self, name: str, attempt: str) -> types.Workstation:
        await self._saved(name)
        try:
            wanted = await self._wanted(name, attempt)
            if self._attempts.get(name) != attempt:
                raise Superseded(name)
            await self._containers.roll_out(wanted)
        except StartFailed as exc:
            if self._attempts.get(name) == attempt:
                self._halt(name)
                await self._stop(name)
            raise exceptions.FailedPrecondition(f"Workstation '{id_of(name)}' could not be started. {exc}") from exc
        except Superseded as exc:
            raise exceptions.Aborted(f"Workstation '{id_of(name)}' was stopped or deleted before it ran.") from exc
        return self.workstations[name].workstation

    async def _stop(self, name: str) -> types.Workstation:
        """End the container; what is not on a persistent directory is gone."""
        container = self.workstations[name].container
        await self._saved(name)
        await self._containers.remove(container)
        await asyncio.to_thread(self._folders.clean, container)
        stored = self.workstations.get(name)
        if stored is None or stored.is_deleted:
            raise exceptions.Aborted(f"Workstation '{id_of(name)}' was deleted before it was stopped.")
        if name not in self._attempts:
            self._set(in_state(stored.workstation, State.STATE_STOPPED, self._clock()))
        return await self._saved(name)

    async def _delete(self, name: str) -> types.Workstation:
        stored = self.workstations[name]
        await self._saved(name)
        await self._containers.remove(stored.container)
        await asyncio.to_thread(self._folders.remove, stored)
        await self._storage.delete(name)
        del self.workstations[name], self._names[stored.container], self._hosts[stored.workstation.host]
        return in_state(stored.workstation, State.STATE_STOPPED, self._clock())

    async def _wanted(self, name: str, attempt: str) -> Wanted:
        stored = self.workstations[name]
        config = self.configs[parent_of(name)]
        try:
            machine = machine_type(config, stored.boost)
        except KeyError as exc:
            raise StartFailed(f"There is no boost config '{stored.boost}' any more.") from exc
        return await asyncio.to_thread(wanted_container, attempt, stored, config, machine, self._folders)

    async def _resume(self, stored: Stored) -> None:
        """Bring back what ran, or was about to, when the process ended; finish what was about to stop or go."""
        name, state = stored.workstation.name, stored.workstation.state
        if stored.is_deleted:
            self._deletions.begin(name, self._delete(name))
        elif state == State.STATE_STOPPING:
            self._work(self._stop(name), f"stop of {name}")
        elif state != State.STATE_STOPPED:
            self._set(in_state(stored.workstation, State.STATE_STARTING, self._clock()))
            attempt = self._new_attempt(name)
            if state == State.STATE_RUNNING:  # it goes on, and so does its running_timeout
                self._first.discard(attempt)
            try:
                self._containers.keep(await self._wanted(name, attempt))
            except StartFailed as exc:
                log.warning("a workstation cannot run again", extra={"workstation": name, "reason": str(exc)})
                self._halt(name)
                self._work(self._stop(name), f"stop of {name}")

    async def _observe(self, container: str, observed: Observed) -> None:
        """Show on the workstation what its container does."""
        name = self._names.get(container, "")
        if self._attempts.get(name) != observed.revision:
            return
        now = self._clock()
        workstation = types.Workstation(self.workstations[name].workstation)
        if observed.phase is Phase.READY:
            if observed.revision in self._first:
                self._first.discard(observed.revision)
                workstation.start_time = now
            self._traffic[name] = now
            self._set(in_state(workstation, State.STATE_RUNNING, now))
        elif observed.phase is Phase.RESTARTING:
            self._traffic.pop(name, None)
            self._set(in_state(workstation, State.STATE_STARTING, now))
        else:
            return
        await self._saved(name)

    def _of_kind(self, group: Group) -> dict[str, Any]:
        return self.clusters if isinstance(group, types.WorkstationCluster) else self.configs

    @staticmethod
    async def _written(group: Group, writing: Coroutine[Any, Any, None]) -> Group:
        await writing
        return group

    def _work(self, work: Coroutine[Any, Any, T], what: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=what)
        self._works.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._works.discard(task)
        exc = None if task.cancelled() else task.exception()
        if exc is not None and not isinstance(exc, exceptions.GoogleAPICallError):  # which whoever asked is told
            log.error("a workstation's work failed", exc_info=exc, extra={"task": task.get_name()})

    async def _end_works(self) -> None:
        """What is not done yet is taken up again after the next start."""
        works = list(self._works)
        for task in works:
            task.cancel()
        await asyncio.gather(*works, return_exceptions=True)
