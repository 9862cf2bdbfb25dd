"""What is done to one workstation, whatever a former call that was cut short has left: run, stop, delete.

Everything raises the client's own errors, those of operations without a class of their own; ProviderUnavailable: it
lasted too long.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions
from google.cloud.workstations_v1 import types

from shared.errors import ProviderUnavailable
from shared.pauses import Pauses

if TYPE_CHECKING:
    from google.cloud.workstations_v1 import WorkstationsAsyncClient

READY_TIMEOUT_S = 600.0  # a virtual machine starts, and pulls the image, in one to some minutes
STOP_TIMEOUT_S = 300.0
LONGEST_PAUSE_S = 5.0  # between looks at a state that another call changes
_State: Any = types.Workstation.State


class Lives:
    """`calls` are options of every call, such as its timeout."""

    def __init__(self, client: "Callable[[], WorkstationsAsyncClient]", calls: dict[str, Any]) -> None:
        self._client = client
        self._calls = calls

    async def get(self, name: str) -> types.Workstation | None:
        """None: there is none."""
        try:
            return await self._client().get_workstation(name=name, **self._calls)
        except exceptions.NotFound:
            return None

    async def running(self, parent: str, wanted: types.Workstation) -> types.Workstation:
        """The workstation once it runs with the variables that are wanted. A former try may have left it anyhow."""
        pauses = Pauses(READY_TIMEOUT_S, asyncio.sleep, LONGEST_PAUSE_S)
        while True:
            workstation = await self.get(wanted.name) or await self._made(parent, wanted)
            if workstation is not None and not workstation.delete_time:
                changed = workstation.env != wanted.env
                if workstation.state == _State.STATE_STOPPED:
                    if changed:
                        await self._change_env(wanted)
                    if started := await self._started(wanted.name):
                        return started
                elif workstation.state == _State.STATE_RUNNING and changed:
                    await self.stopped(wanted.name)  # one that runs gets no new variables
                elif workstation.state == _State.STATE_RUNNING:
                    return workstation
            if not await pauses.next():  # it starts, stops or goes: another call's doing
                raise ProviderUnavailable(f"{wanted.name} did not run after {READY_TIMEOUT_S:g} s")

    async def _made(self, parent: str, wanted: types.Workstation) -> types.Workstation | None:
        """The new workstation, stopped; None: there is one by now."""
        request = types.CreateWorkstationRequest(
            parent=parent, workstation_id=wanted.name.rpartition("/")[2], workstation=wanted
        )
        try:
            operation = await self._client().create_workstation(request, **self._calls)
        except exceptions.AlreadyExists:
            return None
        made: types.Workstation = await operation.result(timeout=READY_TIMEOUT_S)
        return made

    async def _change_env(self, wanted: types.Workstation) -> None:
        request = types.UpdateWorkstationRequest(workstation=wanted, update_mask={"paths": ["env"]})
        operation = await self._client().update_workstation(request, **self._calls)
        await operation.result(timeout=READY_TIMEOUT_S)

    async def _started(self, name: str) -> types.Workstation | None:
        """The workstation, which runs; None: another call was faster, and its state is to be looked at again."""
        try:
            operation = await self._client().start_workstation(name=name, **self._calls)
        except exceptions.FailedPrecondition:
            return None
        started: types.Workstation = await operation.result(timeout=READY_TIMEOUT_S)
        return started

    async def stopped(self, name: str) -> None:
        """Return when it is stopped, or gone."""
        pauses = Pauses(STOP_TIMEOUT_S, asyncio.sleep, LONGEST_PAUSE_S)
        while True:
            workstation = await self.get(name)
            if workstation is None or workstation.state == _State.STATE_STOPPED:
                return
            if workstation.state != _State.STATE_STOPPING:
                with contextlib.suppress(exceptions.FailedPrecondition, exceptions.NotFound):  # then look again
                    operation = await self._client().stop_workstation(name=name, **self._calls)
                    await operation.result(timeout=STOP_TIMEOUT_S)
                    return
            if not await pauses.next():
                raise ProviderUnavailable(f"{name} was not stopped after {STOP_TIMEOUT_S:g} s")

    async def deleted(self, name: str) -> None:
        """Return when it is gone, running or not."""
        pauses = Pauses(STOP_TIMEOUT_S, asyncio.sleep, LONGEST_PAUSE_S)
        while True:
            try:
                operation = await self._client().delete_workstation(name=name, **self._calls)
                await operation.result(timeout=STOP_TIMEOUT_S)
            except exceptions.NotFound:
                return
            except exceptions.FailedPrecondition:  # it starts or stops, or is being deleted
                if not await pauses.next():
                    raise
            else:
                return
