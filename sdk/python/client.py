"""The two clients: OnMemOSClient, whose calls block, and AsyncOnMemOSClient, whose calls are awaited."""

import os
from urllib.parse import urlsplit

import httpx

from .direct import Direct
from .faces import AsyncContext, BlockingContext
from .link import Link
from .retries import Retries
from .sessions import AsyncSessions, Sessions
from .transport import AsyncTransport, BlockingTransport, Transport
from .workspaces import WithWorkspaces

__all__ = ["AsyncOnMemOSClient", "OnMemOSClient"]

API_KEY_VARIABLE = "ONMEMOS_API_KEY"
TIMEOUT_S = 30.0
RETRIES = Retries()


class OnMemOSClient(WithWorkspaces, BlockingContext):
    """A client whose calls block; safe to share between threads.

        with OnMemOSClient("http://localhost:8080", "your-api-key") as client:
            session = client.create_session(template="python", namespace="demo", user="me")
            print(client.execute_session(session["id"], "python --version")["stdout"])
            client.delete_session(session["id"])

    `client.sessions` gives sessions as objects:

            with client.sessions.create(template="python", namespace="demo", user="me") as session:
                print(session.execute("python --version")["stdout"])

    `api_key`: from ONMEMOS_API_KEY if not given. `timeout`: seconds of patience beyond what a call takes by its own
    nature (a command's timeout, a creation's wait). `retries`: how often to try again, or Retries for when.
    `direct`: whether commands and shells go to a session's agent itself where it can be reached; the service is the
    way for all others.
    `http_client`: an httpx.Client of your own (proxies, certificates); it is not closed with this client, and not used
    for shells.
    Raises ValueError: `base_url` is no URL, `api_key` cannot be a key.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        retries: int | Retries = RETRIES,
        direct: bool = True,
        http_client: httpx.Client | None = None,
    ) -> None:
        transport = BlockingTransport(_scheme(base_url), http_client)
        link = _link(transport, base_url, api_key, timeout, retries)
        super().__init__(link)
        self._core = WithWorkspaces(link, Direct(link) if direct else None)
        self.sessions = Sessions(AsyncSessions(self._core))


class AsyncOnMemOSClient(WithWorkspaces, AsyncContext):
    """A client whose calls are awaited, for one event loop.

        async with AsyncOnMemOSClient("http://localhost:8080", "your-api-key") as client:
            session = await client.create_session(template="python", namespace="demo", user="me")
            print((await client.execute_session(session["id"], "python --version"))["stdout"])
            await client.delete_session(session["id"])

            async with await client.sessions.create(template="python", namespace="demo", user="me") as session:
                print((await session.execute("python --version"))["stdout"])

    The arguments are OnMemOSClient's, with an httpx.AsyncClient as `http_client`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        retries: int | Retries = RETRIES,
        direct: bool = True,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        transport = AsyncTransport(_scheme(base_url), http_client)
        link = _link(transport, base_url, api_key, timeout, retries)
        super().__init__(link, Direct(link) if direct else None)
        self.sessions = AsyncSessions(self)


def _scheme(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.username is not None:  # not repeated in the message: it may be a secret
        raise ValueError("base_url: holds a user name, wanted a URL such as http://localhost:8080")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"base_url: got {base_url!r}, wanted a URL such as http://localhost:8080")
    return parts.scheme


def _link(transport: Transport, base_url: str, api_key: str | None, timeout: float, retries: int | Retries) -> Link:
    key = api_key or os.environ.get(API_KEY_VARIABLE) or None
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise ValueError("api_key: has spaces around it, or characters that a header cannot carry")
    return Link(
        transport=transport,
        base_url=base_url.rstrip("/"),
        api_key=key,
        timeout_s=timeout,
        retries=Retries(retries) if isinstance(retries, int) else retries,
    )
