"""Where the API server of a cluster in Google Cloud answers, and the Google token that opens it."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from shared.errors import ProviderUnavailable
from shared.providers.gke_credentials import Kept, Server, Token, TokenSource

CALL_TIMEOUT_S = 30.0
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
CONTAINER_API = "https://container.googleapis.com"


class GkeCluster:
    """A cluster by its name in Google Cloud, through its DNS endpoint, which public authorities vouch for.

    `name`: projects/P/locations/L/clusters/C. See cloud.google.com/kubernetes-engine/docs/concepts/network-isolation.
    """

    def __init__(self, name: str, source: TokenSource | None = None, *, container_api: str = CONTAINER_API) -> None:
        self._name = name
        self._kept = Kept(source or google_token())
        self._container_api = container_api
        self._server: Server | None = None
        self._lock = asyncio.Lock()

    async def server(self) -> Server:
        if self._server is None:
            async with self._lock:
                if self._server is None:
                    self._server = await self._find()
        return self._server

    async def headers(self) -> dict[str, str]:
        return await self._kept.headers()

    def forget(self) -> None:
        self._kept.forget()

    async def _find(self) -> Server:
        import aiohttp

        url = f"{self._container_api}/v1/{self._name}"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)) as client,
                client.get(
                    url,
                    params={"fields": "controlPlaneEndpointsConfig.dnsEndpointConfig"},
                    headers=await self.headers(),
                    allow_redirects=False,
                ) as answer,
            ):
                status, body = answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise ProviderUnavailable(f"the Kubernetes Engine API did not answer: {exc!r}") from exc
        if status != 200:
            message = body.get("error", {}).get("message") if isinstance(body, dict) else None
            raise ProviderUnavailable(f"the Kubernetes Engine API answered {status} for {self._name}: {message}")
        config = body.get("controlPlaneEndpointsConfig", {}).get("dnsEndpointConfig", {})
        if not config.get("endpoint"):
            raise ProviderUnavailable(f"{self._name} has no DNS endpoint; wanted one: --enable-dns-access")
        return Server(f"https://{config['endpoint']}")


def google_token() -> TokenSource:
    """The token of Google's default credentials. They are looked for at the first call; refreshing blocks a thread."""
    found: list[Any] = []

    def refresh() -> Token:
        import google.auth
        from google.auth.transport.requests import Request

        if not found:
            found.append(google.auth.default(scopes=[SCOPE])[0])
        found[0].refresh(Request())
        expiry = found[0].expiry
        left_s = (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() if expiry else 3600.0
        return Token(found[0].token, time.monotonic() + left_s)

    async def source() -> Token:
        from google.auth.exceptions import GoogleAuthError

        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await asyncio.to_thread(refresh)
        except (GoogleAuthError, TimeoutError) as exc:
            raise ProviderUnavailable(f"Google's credentials gave no token: {exc!r}") from exc

    return source
