"""What the use cases stand on: the ports, and the clock."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared.callers import Caller
from shared.errors import ProviderUnavailable, SessionNotFound
from shared.models import ProviderName, Session
from shared.pauses import Sleep
from shared.templates import Templates

if TYPE_CHECKING:
    from shared.agent import Agents
    from shared.buckets import Buckets
    from shared.job_runs import JobRuns
    from shared.job_store import JobStore
    from shared.providers.base import Provider
    from shared.store import Store
    from shared.tasks import Tasks
    from shared.tickets import Tickets


@dataclass(frozen=True, slots=True)
class JobPorts:
    """What jobs stand on."""

    store: "JobStore"
    runs: "JobRuns"


@dataclass(frozen=True, slots=True)
class Ports:
    """One of each. `clock` gives aware UTC.

    `relay_url`: where the relay answers, for clients that cannot reach an agent directly; "": there is none.
    `jobs`: None where there is no Cloud Run.
    """

    store: "Store"
    tasks: "Tasks"
    buckets: "Buckets"
    agents: "Agents"
    providers: "Mapping[ProviderName, Provider]"
    tickets: "Tickets"
    clock: Callable[[], datetime]
    templates: Templates = Templates()
    relay_url: str = ""
    jobs: JobPorts | None = None
    sleep: Sleep = asyncio.sleep

    def provider(self, name: ProviderName) -> "Provider":
        """Raises ProviderUnavailable: sessions are there that this deployment has lost the settings for."""
        try:
            return self.providers[name]
        except KeyError:
            raise ProviderUnavailable(f"this deployment does not offer {name} any more") from None

    async def visible(self, caller: Caller, session_id: str) -> Session:
        """The session, if it is the caller's to see. Raises SessionNotFound."""
        session = await self.store.get(session_id)
        theirs = session.tenant == caller.tenant and caller.may_use(session.namespace)
        if not theirs or not session.is_visible_at(self.clock()):
            raise SessionNotFound
        return session

    async def stored(self, session_id: str) -> Session | None:
        """The session's document, whoever's it is and in whatever state; None when it is gone."""
        try:
            return await self.store.get(session_id)
        except SessionNotFound:
            return None
