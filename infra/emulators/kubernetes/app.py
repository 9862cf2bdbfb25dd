"""The API server as an ASGI application: whom it lets in, where a path leads, in which form the answer goes out.

Streams into Pods (exec, log, proxy, …) are served by who registers for them with `subresource`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Receive, Scope, Send

from infra.emulators.kubernetes import discovery, openapi, reviews
from infra.emulators.kubernetes.answers import answer, refuse, success, text
from infra.emulators.kubernetes.definitions import version_of
from infra.emulators.kubernetes.identity import ISSUER, Tokens, User
from infra.emulators.kubernetes.kinds import SERVICE_ACCOUNTS, Kind
from infra.emulators.kubernetes.lifecycle import ended
from infra.emulators.kubernetes.lists import listed
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.requests import Form, Request, Target, accepted, target
from infra.emulators.kubernetes.resources import Resources
from infra.emulators.kubernetes.schemas import definitions
from infra.emulators.kubernetes.statuses import (
    InternalError,
    MethodNotSupported,
    NoSuchPath,
    PageNotFound,
    StatusError,
    Unauthorized,
)
from infra.emulators.kubernetes.tables import partial, table
from infra.emulators.kubernetes.watching import stream

log = logging.getLogger("infra.emulators.kubernetes")

# The name is the path's, which for a proxy may be SCHEME:NAME:PORT; the object is the Pod itself. What follows the
# subresource in the path is scope["path_params"]["path"].
SubresourceHandler = Callable[[Scope, Receive, Send, str, str, Object], Awaitable[None]]

_SHAPES = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")


class ApiServer:
    def __init__(self, objects: Objects, *, token: str) -> None:
        self._objects = objects
        self._resources = Resources(objects)
        self._tokens = Tokens(token)
        self._handlers: dict[tuple[str, str], SubresourceHandler] = {}
        self._stopping = asyncio.Event()
        self._schemas: asyncio.Task[object] | None = None

    def subresource(self, plural: str, name: str, handler: SubresourceHandler) -> None:
        """Serve that subresource, HTTP and WebSockets, of objects that exist to callers who are let in."""
        self._handlers[plural, name] = handler

    def account_token(self, namespace: str, name: str, audiences: list[str], lifetime_s: int) -> str:
        """A token of a service account, as a Pod of its finds it. Raises NotFound."""
        account = self._objects.get(SERVICE_ACCOUNTS, namespace, name)
        return self._tokens.issue(namespace, account, audiences or [ISSUER], lifetime_s)[0]

    def stop_streams(self) -> None:
        """End all watches: a server that shuts down waits for its answers."""
        self._stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        if scope["type"] == "websocket":
            scope = {**scope, "method": "GET"}
        begun = False

        async def sending(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._serve(scope, receive, sending)
        except StatusError as exc:
            if begun:
                raise
            await refuse(scope, send, exc)
        except Exception as exc:
            log.exception("a request failed", extra={"path": scope["path"]})
            if begun:
                raise
            await refuse(scope, send, InternalError(f"{type(exc).__name__}: {exc}"))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        user = self._tokens.user(request.headers)
        if user is None and ("authorization" in request.headers or not request.path.startswith(_PUBLIC)):
            raise Unauthorized
        found = target(request.path)
        if self._schemas is None:  # slow to import: in a thread, from the first request on
            self._schemas = asyncio.create_task(asyncio.to_thread(definitions), name="kubernetes-schemas")
        if request.method not in ("GET", "HEAD"):
            await asyncio.shield(self._schemas)
        if found is None:
            await self._about(request, send)
            return
        if review := reviews.kind_of(found):
            if user is None:
                raise Unauthorized
            await self._review(review, found, request, send, user)
            return
        kind = self._objects.kinds.find(found.group, found.version, found.plural)
        if kind is None and not discovery.is_builtin(self._objects.kinds, found.group, found.version):
            raise PageNotFound
        if kind is None or (found.namespace and not kind.namespaced):
            raise NoSuchPath
        if found.subresource:
            await self._subresource(kind, found, request, scope, receive, send)
        elif scope["type"] == "websocket":
            raise NoSuchPath
        elif found.name:
            await self._one(kind, found, request, send)
        else:
            await self._many(kind, found, request, send)

    async def _about(self, request: Request, send: Send) -> None:
        """Discovery, health, version, schemas."""
        if request.method not in ("GET", "HEAD"):
            raise MethodNotSupported
        path, kinds = request.path.rstrip("/") or "/", self._objects.kinds
        accept = request.headers.get("accept", "")
        if path in ("/api", "/apis") and discovery.wants_aggregated(accept):
            body = discovery.aggregated(kinds, core=path == "/api")
            await answer(send, 200, body, media_type=discovery.AGGREGATED)
            return
        if path in ("/healthz", "/livez", "/readyz") or path.startswith(("/livez/", "/readyz/", "/healthz/")):
            await text(send, 200, "ok")
        elif path == "/version":
            await answer(send, 200, discovery.VERSION)
        elif path == "/api":
            await answer(send, 200, discovery.api_versions(request.headers.get("host", "")))
        elif path == "/apis":
            await answer(send, 200, discovery.api_group_list(kinds))
        elif path == "/":
            await answer(send, 200, {"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/version"]})
        elif path.startswith("/openapi/"):
            await answer(send, 200, await openapi.document(self._objects, path, accept))
        else:
            await answer(send, 200, self._group(path))

    def _group(self, path: str) -> dict[str, Any]:
        parts = path.strip("/").split("/")
        if parts == ["api", "v1"]:
            return discovery.resource_list(self._objects.kinds, "", "v1")
        if parts[0] == "apis" and len(parts) == 2:
            return discovery.api_group(self._objects.kinds, parts[1])
        if parts[0] == "apis" and len(parts) == 3:
            return discovery.resource_list(self._objects.kinds, parts[1], parts[2])
        raise PageNotFound

    async def _review(self, kind: Kind, found: Target, request: Request, send: Send, user: User) -> None:
        if request.method != "POST" or found.name:
            raise MethodNotSupported
        body = reviews.answered(kind, await request.object(), user, self._tokens)
        await answer(send, 201, body)

    async def _one(self, kind: Kind, found: Target, request: Request, send: Send) -> None:
        form = accepted(request.headers.get("accept", ""), shapes=_SHAPES)
        namespace, name = found.namespace, found.name
        if kind.namespaced and not namespace:
            raise NoSuchPath
        if request.method == "GET" and request.flag("watch"):
            await self._watch(kind, found, request, send, form)
            return
        if request.method == "DELETE":
            await self._deleted(kind, await self._resources.delete(kind, namespace, name, request), send, form)
            return
        if request.method in ("GET", "HEAD"):
            body = self._shaped(kind, self._objects.get(kind, namespace, name), request, form)
            await answer(send, 200, body, media_type=form.media_type)
            return
        if request.method == "PUT":
            result = await self._resources.replace(kind, namespace, name, request)
        elif request.method == "PATCH":
            result = await self._resources.patch(kind, namespace, name, request)
        else:
            raise MethodNotSupported
        body = self._shaped(kind, result.object, request, form)
        await answer(send, result.code, body, media_type=form.media_type, warnings=result.warnings)

    async def _many(self, kind: Kind, found: Target, request: Request, send: Send) -> None:
        form = accepted(request.headers.get("accept", ""), shapes=_SHAPES)
        if request.method in ("GET", "HEAD"):
            if request.flag("watch"):
                await self._watch(kind, found, request, send, form)
                return
            body = listed(self._objects, kind, found.namespace, request)
            await answer(send, 200, self._shaped_list(kind, body, request, form), media_type=form.media_type)
        elif request.method == "POST":
            if kind.namespaced and not found.namespace:
                raise MethodNotSupported
            result = await self._resources.create(kind, found.namespace, request)
            body = self._shaped(kind, result.object, request, form)
            await answer(send, result.code, body, media_type=form.media_type, warnings=result.warnings)
        elif request.method == "DELETE":
            if kind.namespaced and not found.namespace:
                raise MethodNotSupported
            deleted = await self._resources.delete_collection(kind, found.namespace, request)
            metadata = {"resourceVersion": self._objects.resource_version}
            body = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": deleted}
            await answer(send, 200, self._shaped_list(kind, body, request, form), media_type=form.media_type)
        else:
            raise MethodNotSupported

    async def _subresource(
        self, kind: Kind, found: Target, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if not any(sub.name == found.subresource for sub in kind.subresources):
            raise NoSuchPath
        if handler := self._handlers.get((kind.plural, found.subresource)):
            obj = self._objects.get(kind, found.namespace, _bare(found.name))
            scope = {**scope, "path_params": {"path": found.rest}}
            await handler(scope, receive, send, found.namespace, found.name, obj)
            return
        if scope["type"] == "websocket" or found.rest:
            raise NoSuchPath
        form = accepted(request.headers.get("accept", ""), shapes=_SHAPES)
        namespace, name = found.namespace, found.name
        if found.subresource in ("status", "finalize"):
            if request.method == "GET":
                body = self._shaped(kind, self._objects.get(kind, namespace, name), request, form)
                await answer(send, 200, body, media_type=form.media_type)
                return
            if request.method not in ("PUT", "PATCH"):
                raise MethodNotSupported
            change = self._resources.replace if request.method == "PUT" else self._resources.patch
            result = await change(kind, namespace, name, request, found.subresource)
            body = self._shaped(kind, result.object, request, form)
            await answer(send, result.code, body, media_type=form.media_type, warnings=result.warnings)
            return
        if request.method != "POST":
            raise MethodNotSupported
        asked = await reviews.of_object(self._objects, kind, found, await request.object(), self._tokens)
        await answer(send, 201, asked)

    async def _watch(self, kind: Kind, found: Target, request: Request, send: Send, form: Form) -> None:
        def shape(obj: Object, first: bool) -> dict[str, Any]:
            return self._shaped(kind, obj, request, form, headed=first)

        await stream(
            self._objects,
            kind,
            found.namespace,
            request,
            send,
            shape=shape,
            stopping=self._stopping,
            name=found.name,
        )

    async def _deleted(self, kind: Kind, obj: Object, send: Send, form: Form) -> None:
        if not ended(kind, obj) or kind.returns_deleted:
            await answer(send, 200, {**obj, "apiVersion": kind.api_version}, media_type=form.media_type)
            return
        metadata = obj["metadata"]
        details = {"name": metadata["name"], "group": kind.group, "kind": kind.plural, "uid": metadata["uid"]}
        await answer(send, 200, success(details), media_type=form.media_type)

    def _shaped(self, kind: Kind, obj: Object, request: Request, form: Form, *, headed: bool = True) -> dict[str, Any]:
        obj = {**obj, "apiVersion": kind.api_version, "kind": kind.kind}
        if form.shape == "Table":
            return self._table(kind, [obj], obj["metadata"], request, headed=headed)
        return partial(obj) if form.shape == "PartialObjectMetadata" else obj

    def _shaped_list(self, kind: Kind, body: dict[str, Any], request: Request, form: Form) -> dict[str, Any]:
        of = {"apiVersion": kind.api_version, "kind": kind.kind}
        if form.shape == "Table":
            items = [{**obj, **of} for obj in body["items"]]
            return self._table(kind, items, body["metadata"], request, headed=True)
        if form.shape == "PartialObjectMetadataList":
            items = [partial(obj) for obj in body["items"]]
            return {**body, "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "items": items}
        if kind.custom:
            return {**body, "items": [{**obj, **of} for obj in body["items"]]}
        bare = [{key: obj[key] for key in obj if key not in of} for obj in body["items"]]
        return {**body, "items": bare}

    def _table(
        self, kind: Kind, items: list[Object], metadata: dict[str, Any], request: Request, *, headed: bool
    ) -> dict[str, Any]:
        version = version_of(self._objects, kind) if kind.custom else {}
        include = request.query.get("includeObject", "Metadata")
        return table(kind, items, metadata, version=version, include=include, headed=headed)


def _bare(name: str) -> str:
    """The Pod of SCHEME:POD:PORT."""
    parts = name.split(":")
    return parts[1] if len(parts) == 3 else parts[0]
