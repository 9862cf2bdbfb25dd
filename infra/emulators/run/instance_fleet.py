"""The instances that exist and their containers: created, stopped, started and deleted here."""

import asyncio
import shutil
import uuid
import weakref
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from google.api_core import exceptions
from google.cloud.run_v2 import types

from infra.emulators.run import instance_resources, resources
from infra.emulators.run.containers import Containers, Superseded
from infra.emulators.run.deletions import Deletions
from infra.emulators.run.fleet import FAILURES_UNTIL_FAILED
from infra.emulators.run.ground import Ground
from infra.emulators.run.keeper import Observed, Phase, StartFailed
from infra.emulators.run.names import Location
from infra.emulators.run.opened import Opened
from infra.emulators.run.resources import Reason, State, id_of, with_facts
from infra.emulators.run.specs import wanted_instance
from infra.emulators.run.storage import Row

STOPPED = "Instance stopped."


@dataclass(slots=True)
class Kept:
    """An instance, the name of its container, and its `life`: another one from each start or stop on.

    `starting` is how the start that is under way ends. `facts` are its sandbox's, while that is ready.
    """

    container: str
    instance: types.Instance
    life: str = ""
    starting: asyncio.Future[None] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


class InstanceFleet(Opened):
    """Kept in memory and, written through, in the storage.

    Opening it starts the containers again of what ran; what was stopped stays so. A container that starts after a stop
    is a fresh one: nothing but its buckets and shares is what it was.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._containers = Containers(ground.runtime, self._observe)
        self._kept: dict[str, Kept] = {}
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._deletions = Deletions()

    async def _open(self, opening: AsyncExitStack) -> None:
        await opening.enter_async_context(self._containers)
        await opening.enter_async_context(self._deletions)
        for row in await self._ground.storage.load("instances"):
            self.add(row.container or id_of(row.message.name), row.message)
        for kept in list(self._kept.values()):
            await self._resume(kept)

    def below(self, parent: Location) -> list[str]:
        return [name for name in self._kept if name.startswith(f"{parent}/instances/")]

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def shown(self, name: str) -> types.Instance:
        """As clients see it. Raises KeyError."""
        return with_facts(self._kept[name].instance, self._kept[name].facts)

    def add(self, container: str, instance: types.Instance) -> None:
        """Take in an instance that did not exist; `start` it then."""
        self._kept[instance.name] = Kept(container, instance)
        self._ground.names.take(container, instance.name)

    async def start(self, name: str) -> types.Instance:
        """Returns it when it is ready, in a fresh container; one that is ready, or becomes that, stays as it is.

        Raises FailedPrecondition: its container did not start; Aborted: it was stopped or deleted before it was ready.
        """
        kept = self._kept[name]
        if kept.instance.terminal_condition.state == State.CONDITION_SUCCEEDED:
            return self.shown(name)
        if kept.starting is not None:
            await asyncio.shield(kept.starting)
            return self.shown(name)
        starting = kept.starting = asyncio.get_running_loop().create_future()
        try:
            await self._begin(kept)
        except Exception as exc:
            starting.set_exception(exc)
            starting.exception()  # nobody else may want it
            raise
        else:
            starting.set_result(None)
        finally:
            starting.cancel()  # unless it is done
            if kept.starting is starting:
                kept.starting = None
        return self.shown(name)

    async def stop(self, name: str) -> types.Instance:
        """End its container, and what that had but for its buckets and shares. Raises Aborted: it was started since."""
        kept = self._kept[name]
        if instance_resources.is_stopped(kept.instance):
            return kept.instance
        life = self._new_life(kept)
        await self._show(kept, instance_resources.stopping(kept.instance, self._ground.clock()))
        await self._containers.remove(kept.container)  # also ends a start that is under way
        async with self._turn(name):
            _check_life(kept, life)
            await self._clear(kept)
            await self._show(kept, instance_resources.stopped(kept.instance, STOPPED, self._ground.clock()))
        return kept.instance

    def begin_deletion(self, instance: types.Instance) -> asyncio.Task[types.Instance]:
        """From now on it is as good as gone; the task ends when its container and folders are too."""
        kept = self._kept[instance.name]
        kept.instance = instance
        self._new_life(kept)
        return self._deletions.begin(instance.name, self._remove(kept))

    async def deletion(self, name: str) -> None:
        """Wait for the deletion of an instance that is under way, if there is one."""
        await self._deletions.ended(name)

    def _new_life(self, kept: Kept) -> str:
        """Nothing that is under way or observed of the former one concerns the instance any more."""
        kept.life, kept.starting, kept.facts = str(uuid.uuid4()), None, {}
        return kept.life

    async def _begin(self, kept: Kept) -> None:
        life, starting = str(uuid.uuid4()), "Starting the instance."
        kept.life = life
        begun = resources.reconciling(kept.instance, starting, Reason.WAITING_FOR_OPERATION, self._ground.clock())
        await self._show(kept, begun)
        async with self._turn(begun.name):
            try:
                _check_life(kept, life)
                await self._clear(kept)
                wanted = await asyncio.to_thread(wanted_instance, kept.container, life, begun, self._ground.folders)
                _check_life(kept, life)
                await self._containers.roll_out(wanted)
            except StartFailed as exc:
                if kept.life == life:
                    why = f"Instance '{id_of(begun.name)}' did not start. {exc}"
                    await self._show(
                        kept, resources.failed(kept.instance, why, self._ground.clock(), trying_again=False)
                    )
                raise exceptions.FailedPrecondition(str(exc)) from exc
            except Superseded as exc:
                raise _aborted(kept) from exc

    async def _clear(self, kept: Kept) -> None:
        """End its container, and delete what that wrote outside of buckets and shares."""
        await self._containers.remove(kept.container)
        await asyncio.to_thread(shutil.rmtree, self._ground.folders.scratch / kept.container, ignore_errors=True)

    async def _remove(self, kept: Kept) -> types.Instance:
        name = kept.instance.name
        await self._ground.storage.save(Row(kept.instance, kept.container))
        await self._containers.remove(kept.container)  # also ends a start that is under way
        async with self._turn(name):
            await self._clear(kept)
            await self._ground.storage.delete(name)
            del self._kept[name]
            self._ground.names.give_back(kept.container)
        gone = types.Instance(kept.instance)
        gone.reconciling = False
        return gone

    async def _resume(self, kept: Kept) -> None:
        """Bring back what ran, or was about to, when the process ended; and end what was about to."""
        instance, now = kept.instance, self._ground.clock()
        if instance.delete_time:
            self.begin_deletion(instance)
        elif instance_resources.is_stopping(instance):
            await self._show(kept, instance_resources.stopped(instance, STOPPED, now))
        elif instance.terminal_condition.state != State.CONDITION_FAILED or instance.reconciling:
            message = "The container starts again: the emulator was restarted."
            kept.instance = resources.reconciling(instance, message, Reason.IMMEDIATE_RETRY, now)
            kept.life = str(uuid.uuid4())
            try:
                self._containers.keep(
                    await asyncio.to_thread(wanted_instance, kept.container, kept.life, instance, self._ground.folders)
                )
            except StartFailed as exc:
                await self._show(kept, resources.failed(instance, str(exc), now, trying_again=False))

    async def _observe(self, container: str, observed: Observed) -> None:
        """Show on the instance what happened to its container, unless that is of a former life."""
        kept = self._kept.get(self._ground.names.owner(container))
        if kept is None or kept.life != observed.revision:
            return
        now = self._ground.clock()
        kept.facts = observed.facts  # none, unless it is ready
        if observed.phase is Phase.READY:
            await self._show(kept, resources.ready(kept.instance, now))
        elif observed.phase is Phase.ENDED:
            await self._show(kept, instance_resources.stopped(kept.instance, f"{STOPPED} {observed.message}", now))
        elif observed.phase is Phase.RESTARTING and observed.failures < FAILURES_UNTIL_FAILED:
            again = resources.reconciling(kept.instance, observed.message, Reason.IMMEDIATE_RETRY, now)
            await self._show(kept, again)
        elif observed.phase is Phase.RESTARTING:
            await self._show(kept, resources.failed(kept.instance, observed.message, now, trying_again=True))

    async def _show(self, kept: Kept, instance: types.Instance) -> None:
        kept.instance = instance
        await self._ground.storage.save(Row(instance, kept.container))

    def _turn(self, name: str) -> asyncio.Lock:
        """Held by a start; whoever holds or waits for it keeps it in the dictionary."""
        return self._turns.setdefault(name, asyncio.Lock())


def _check_life(kept: Kept, life: str) -> None:
    if kept.life != life:
        raise _aborted(kept)


def _aborted(kept: Kept) -> exceptions.Aborted:
    return exceptions.Aborted(
        f"Instance '{id_of(kept.instance.name)}' was started, stopped or deleted while the operation was under way."
    )
