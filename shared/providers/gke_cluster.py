"""The cluster's API as the provider uses it: few verbs for every kind of object, bounded, its errors told apart.

Objects are dictionaries as they are in JSON. Bodies are checked by the client's models before they are sent; answers
are not, so that a server which is newer than the client can say more than it knows.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from shared.cloud import unavailable
from shared.errors import OnMemOSError, ProviderUnavailable, ProvisioningFailed, QuotaExceeded
from shared.providers.gke_credentials import Credentials
from shared.providers.gke_manifests import Manifest

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

CALL_TIMEOUT_S = 30.0
WATCH_S = 60  # then a watch begins anew: a connection that died silently is noticed
PAGE = 500
MOST_PAGES = 1000
LEAST_WATCH_S = 1.0  # a server that ends watches at once is not asked more often than this
OK_STATUSES = range(200, 300)
NOT_FOUND, CONFLICT, GONE, FORBIDDEN, UNAUTHORIZED = 404, 409, 410, 403, 401
PASSING = frozenset({0, UNAUTHORIZED, 408, 425, 429, *range(500, 600)})
BROKEN = (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind by the client's class and the middle of its methods' names; `of` says which kind a custom object is."""

    api: str
    method: str
    of: Mapping[str, str] = field(default_factory=dict)


PODS = Kind("CoreV1Api", "pod")
SECRETS = Kind("CoreV1Api", "secret")
VOLUME_CLAIMS = Kind("CoreV1Api", "persistent_volume_claim")
SERVICE_ACCOUNTS = Kind("CoreV1Api", "service_account")
EVENTS = Kind("CoreV1Api", "event")
NETWORK_POLICIES = Kind("NetworkingV1Api", "network_policy")


class Refused(Exception):
    """The API server said no: `status` is HTTP's, the text is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def as_failure(self) -> OnMemOSError:
        """What it means for a workspace that was to be made."""
        text = str(self)
        if self.status == FORBIDDEN and "exceeded quota" in text:
            return QuotaExceeded(f"Kubernetes refused the workspace: {text}")
        if self.status == FORBIDDEN and "being terminated" in text:
            return unavailable("Kubernetes", self)
        return ProvisioningFailed(f"Kubernetes could not start the workspace: {text}")


class Cluster:
    """Every call raises ProviderUnavailable, or Refused. The client opens at the first; `close` is idempotent."""

    def __init__(self, credentials: Credentials, *, patience_s: float = CALL_TIMEOUT_S) -> None:
        self._credentials = credentials
        self._patience_s = patience_s
        self._client: ApiClient | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        client: Any = self._client  # parts of the client have no types
        self._client = None
        if client is not None:
            await client.close()

    async def create(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        """Raises Refused with CONFLICT: there is one of that name."""
        return await self._call(kind, "create_namespaced", namespace=namespace, body=manifest)

    async def create_namespace(self, manifest: Manifest) -> Manifest:
        return await self._call(Kind("CoreV1Api", "namespace"), "create", body=manifest)

    async def replace(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        """Whatever it was before."""
        name = manifest["metadata"]["name"]
        return await self._call(kind, "replace_namespaced", name=name, namespace=namespace, body=manifest)

    async def find(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        items, _ = await self._list(kind, namespace, field_selector=f"metadata.name={name}")
        return items[0] if items else None

    async def labelled(self, kind: Kind, selector: str, namespace: str = "") -> list[Manifest]:
        """Those that carry the label, of all namespaces or of one."""
        return (await self._list(kind, namespace, label_selector=selector))[0]

    async def delete(self, kind: Kind, namespace: str, name: str, *, foreground: bool = False) -> None:
        """Delete and wait until it is really gone; one that is not there is not an error. `foreground`: and its own."""
        options = {"propagation_policy": "Foreground"} if foreground else {}
        try:
            answer = await self._call(kind, "delete_namespaced", name=name, namespace=namespace, **options)
        except Refused as refusal:
            if refusal.status == NOT_FOUND:
                return
            raise
        metadata = answer.get("metadata", {})
        if metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds"):
            await self.gone(kind, namespace, answer)

    async def gone(self, kind: Kind, namespace: str, obj: Manifest) -> None:
        """Wait until this very object, which is being deleted, is no more. Bound it in time."""
        metadata = obj["metadata"]
        async with aclosing(self.states(kind, namespace, metadata["name"], metadata["resourceVersion"])) as states:
            async for state in states:
                if state is None or state["metadata"]["uid"] != metadata["uid"]:
                    return

    async def states(
        self, kind: Kind, namespace: str, name: str, since: str | None = None
    ) -> AsyncGenerator[Manifest | None, None]:
        """How the object is, or None when there is none; again whenever that changes. Endless: bound it in time.

        `since`: a resourceVersion whose state the caller has seen.
        """
        async with aclosing(self.changes(kind, namespace, f"metadata.name={name}", since)) as changes:
            async for changed in changes:
                if isinstance(changed, list):
                    yield changed[0] if changed else None
                else:
                    change, obj = changed
                    yield None if change == "DELETED" else obj

    async def changes(
        self, kind: Kind, namespace: str, fields: str, since: str | None = None
    ) -> AsyncGenerator[list[Manifest] | tuple[str, Manifest], None]:
        """What there is, as a list, and then each change of it as (type, object). Endless.

        The list comes again where changes may have been missed. With `since` it does not come at first.
        """
        while True:
            if since is None:
                items, since = await self._list(kind, namespace, field_selector=fields)
                yield items
            began, quiet = time.monotonic(), True
            try:
                async with aclosing(self._watch(kind, namespace, fields, since)) as events:
                    async for change, obj in events:
                        since = obj["metadata"]["resourceVersion"]
                        if change != "BOOKMARK":
                            quiet = False
                            yield change, obj
            except Refused as refusal:
                if refusal.status != GONE:
                    raise
                since = None
            except ProviderUnavailable:
                since = None  # the connection broke; listing says whether the server is there
            if quiet:
                since = None
                await asyncio.sleep(max(0.0, began + LEAST_WATCH_S - time.monotonic()))

    async def _list(self, kind: Kind, namespace: str, **selectors: str) -> tuple[list[Manifest], str]:
        found: list[Manifest] = []
        page: dict[str, Any] = {}
        for _ in range(MOST_PAGES):
            if namespace:
                page["namespace"] = namespace
            answer = await self._call(kind, _list_verb(namespace), **selectors, limit=PAGE, **page)
            found += answer.get("items") or []
            page = {"_continue": answer.get("metadata", {}).get("continue")}
            if not page["_continue"]:
                return found, answer["metadata"]["resourceVersion"]
        raise ProviderUnavailable(f"Kubernetes listed more than {MOST_PAGES * PAGE} objects")

    async def _watch(
        self, kind: Kind, namespace: str, fields: str, since: str
    ) -> AsyncGenerator[tuple[str, Manifest], None]:
        function, keywords = await self._function(kind, _list_verb(namespace))
        keywords |= {"namespace": namespace, "field_selector": fields, "resource_version": since}
        try:
            response = await function(
                **keywords,
                watch=True,
                allow_watch_bookmarks=True,
                timeout_seconds=WATCH_S,
                _request_timeout=WATCH_S + CALL_TIMEOUT_S,
            )
            async with response:
                if response.status not in OK_STATUSES:
                    raise self._refusal(response.status, await response.read())
                buffered = b""
                async for chunk in response.content.iter_any():
                    *lines, buffered = (buffered + chunk).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            raise self._refusal(event["object"].get("code", 0), json.dumps(event["object"]).encode())
                        yield event["type"], event["object"]
        except BROKEN as exc:
            raise unavailable("Kubernetes", exc) from exc

    async def _call(self, kind: Kind, verb: str, **keywords: Any) -> Manifest:
        function, of = await self._function(kind, verb)
        try:
            async with asyncio.timeout(self._patience_s):
                response = await function(**of, **keywords, _request_timeout=CALL_TIMEOUT_S)
                async with response:
                    body = await response.read()
                    if response.status not in OK_STATUSES:
                        raise self._refusal(response.status, body)
                    answer: Manifest = json.loads(body)
        except BROKEN as exc:
            raise unavailable("Kubernetes", exc) from exc
        return answer

    def _refusal(self, status: int, body: bytes) -> Exception:
        try:
            message = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            message = body[:500].decode("utf-8", "replace") or f"HTTP {status}"
        if status == UNAUTHORIZED:
            self._credentials.forget()
        if status in PASSING:
            return ProviderUnavailable(f"Kubernetes did not answer as expected: {status} {message}")
        return Refused(status, message)

    async def _function(self, kind: Kind, verb: str) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The client's method that leaves the answer unread, and what it is to be given."""
        from kubernetes.aio import client as kubernetes

        if self._client is None:
            async with self._lock:
                if self._client is None:
                    self._client = await self._opened()
        name = f"{verb}_{kind.method}"
        if verb == _list_verb(""):
            name = f"list_{kind.method}_for_all_namespaces"
        api = getattr(kubernetes, kind.api)(self._client)
        return getattr(api, f"{name}_without_preload_content"), dict(kind.of)

    async def _opened(self) -> "ApiClient":
        from kubernetes.aio.client import ApiClient, Configuration

        server = await self._credentials.server()
        configuration: Any = Configuration(host=server.url)

        async def renew(configuration: Configuration) -> None:
            configuration.api_key["BearerToken"] = (await self._credentials.headers()).get("Authorization", "")

        if await self._credentials.headers():
            configuration.api_key["BearerToken"] = ""  # the client asks for none where it has none
            configuration.refresh_api_key_hook = renew
        client = ApiClient(configuration)
        if server.ssl is not None:
            client.rest_client.ssl_context = server.ssl
        return client


def _list_verb(namespace: str) -> str:
    return "list_namespaced" if namespace else "list"
