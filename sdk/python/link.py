"""The way to one deployment: where it is, with which key, with how much patience."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from . import answers
from .retries import NEVER_EXECUTED, TRANSIENT, Retries
from .transport import Request, Transport
from .version import __version__

T = TypeVar("T")

USER_AGENT = f"onmemos-python/{__version__}"


@dataclass(frozen=True, slots=True)
class Link:
    """`base_url` has no slash at its end. `timeout_s`: patience beyond the time that a call takes by its own nature.

    `clock` gives seconds that only ever grow.
    """

    transport: Transport
    base_url: str
    api_key: str | None = field(repr=False)
    timeout_s: float
    retries: Retries
    clock: Callable[[], float] = time.monotonic

    async def call(
        self,
        shape: type[T],
        method: str,
        path: str,
        *,
        idempotent: bool,
        json: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        takes_s: float = 0.0,
        retries: Retries | None = None,
    ) -> T:
        """The answer's JSON object, trusted to have this shape. `takes_s`: what the call may take at the service.

        `retries`: other than the link's.

        Raises OnMemOSError's subclasses.
        """
        patience_s = self.timeout_s + takes_s
        request = Request(
            method=method,
            url=f"{self.base_url}{path}",
            timeout_s=patience_s,
            headers={**self.own_headers(), **(headers or {})},
            query=query or {},
            json=json,
        )

        async def once() -> T:
            return cast("T", answers.read(await self.transport.send(request)))

        return await (retries or self.retries).run(
            once, passing=TRANSIENT if idempotent else NEVER_EXECUTED, patience_s=patience_s, sleep=self.transport.sleep
        )

    def own_headers(self) -> dict[str, str]:
        """What the service is told in every request: who asks, and with which key. Not for anybody else."""
        own = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if self.api_key:
            own["X-API-Key"] = self.api_key
        return own
