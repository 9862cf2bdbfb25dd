"""HTTP connections to a port inside a container, which its attendant dials."""

from pathlib import Path
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

from infra.sandbox.attendance import dialed
from infra.sandbox.spec import SandboxError


class PortConnector(aiohttp.BaseConnector):
    """Connects every request to `port`, whatever its URL says, by the Unix socket of the container's attendant.

    `options` are BaseConnector's.
    """

    def __init__(self, attendant: Path, port: int, **options: Any) -> None:
        super().__init__(limit=0, **options)
        self._attendant = attendant
        self._port = port

    async def _create_connection(self, req: Any, *_: Any) -> ResponseHandler:
        """What BaseConnector asks of its kinds. Raises aiohttp.ClientConnectorError: nobody listens there."""
        try:
            connection = await dialed(self._attendant, self._port)
            made: Any = self._factory
            opened = await self._loop.create_unix_connection(made, sock=connection)
        except (SandboxError, OSError) as exc:
            raise aiohttp.ClientConnectorError(req.connection_key, OSError(str(exc))) from exc
        return cast("ResponseHandler", opened[1])
