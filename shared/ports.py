"""What the use cases stand on: the ports, and the clock."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared.errors import SessionNotFound
from shared.models import ProviderName, Session
from shared.pauses import Sleep

if TYPE_CHECKING:
    from shared.agent import Agents
    from shared.buckets import Buckets
    from shared.providers.base import Provider
    from shared.store import Store
    from shared.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Ports:
    """One of each. `clock` gives aware UTC; `public_keys` is what workspaces verify tickets with (a JWK set)."""

    store: "Store"
    tasks: "Tasks"
    buckets: "Buckets"
    agents: "Agents"
    providers: "Mapping[ProviderName, Provider]"
    public_keys: str
    clock: Callable[[], datetime]
    sleep: Sleep = asyncio.sleep

    async def stored(self, session_id: str) -> Session | None:
        """The session's document, whoever's it is and in whatever state; None when it is gone."""
        try:
            return await self.store.get(session_id)
        except SessionNotFound:
            return None
