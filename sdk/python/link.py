"""The way to one deployment: where it is, with which key, with how much patience."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from . import answers
from .retries import Retries
from .transport import Request, Transport
from .version import __version__

T = TypeVar("T")

USER_AGENT = f"onmemos-python/{__version__}"


@dataclass(frozen=True, slots=True)
class Link:
    """`base_url` has no slash at its end. `timeout_s`: patience beyond the time that a call takes by its own nature."""

    transport: Transport
    base_url: str
    api_key: str | None = field(repr=False)
    timeout_s: float
    retries: Retries

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
    ) -> T:
        """The answer's JSON object, trusted to have this shape. `takes_s`: what the call may take at the service.

        Raises OnMemOSError's subclasses.
        """
        patience_s = self.timeout_s + takes_s
        request = Request(
            method=method,
            url=f"{self.base_url}{path}",
            timeout_s=patience_s,
            headers={**self._own_headers(), **(headers or {})},
            query=query or {},
            json=json,
        )

        async def once() -> T:
            return cast("T", answers.read(await self.transport.send(request)))

        return await self.retries.run(once, idempotent=idempotent, patience_s=patience_s, sleep=self.transport.sleep)

    def _own_headers(self) -> dict[str, str]:
        own = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if self.api_key:
            own["X-API-Key"] = self.api_key
        return own
