"""What stands in front of fake-gcs-server, so that sessions and clients see the same objects in a mounted bucket.

It lists objects, takes resumable uploads and keeps the buckets' IAM policies itself, and passes everything else on:
before that, the objects that a request names are described as they are now (see folder.py), and after that, what was
written is. Objects that were written are handed to whom the bucket's folder belongs.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from infra.emulators.buckets import listing
from infra.emulators.buckets.folder import Folder
from infra.emulators.buckets.policies import BadPolicy, Policies
from infra.emulators.buckets.uploads import ID, BadUpload, Uploads

CONNECT_TIMEOUT_S = 5.0
_JSON_API = re.compile(r"/(?:upload/|download/)?(?:storage/v1/)?b/([^/]+)(?:/o(?:/([^/]+)(?:/.*)?)?)?")
_POLICY = re.compile(r"/(?:storage/v1/)?b/([^/]+)/iam")
_XML_API = re.compile(r"/([^/]+)/(.+)")
_READS = frozenset({"GET", "HEAD"})
# RFC 9110, 7.6.1; Expect was answered here.
_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


class Front:
    """An ASGI application. `server` is fake-gcs-server's URL, `buckets` its folder; close it at the end.

    Beside that folder it has two of its own, for uploads and for policies.
    """

    def __init__(self, buckets: Path, server: str) -> None:
        self._buckets = buckets
        self._uploads = Uploads(buckets.with_name(f"{buckets.name}-parts"))
        self._policies = Policies(buckets.with_name(f"{buckets.name}-policies"))
        self._policies_change = asyncio.Lock()
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(base_url=server, timeout=timeout, limits=limits, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()
        await asyncio.to_thread(self._uploads.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(Request(scope, receive))
        except OSError as exc:
            answer = _refusal(400, "invalid", f"the bucket's folder: {exc}")
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii").partition("?")[0]
        if policy := _POLICY.fullmatch(path):
            return await self._policy(request, unquote(policy[1]))
        bucket, name = _named(path)
        if not bucket or not self._folder(bucket):
            return await self._passed(request, path)
        if path.endswith("/o") and request.method == "GET":
            return await self._listed(request, bucket)
        if request.query_params.get("uploadType") == "resumable" and path.startswith("/upload/"):
            return await self._uploaded(request, path, bucket)
        if name:
            await asyncio.to_thread(self._settle, path, every=path.endswith("/compose"))
            if request.method in _READS and not await asyncio.to_thread(self._is_meant, request, bucket, name):
                return _refusal(
                    412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
                )
        elif request.method == "DELETE" and not await asyncio.to_thread(self._folder(bucket).clear):
            return _refusal(409, "conflict", "The bucket you tried to delete is not empty.")
        answer = await self._passed(request, path)
        if request.method == "DELETE" and not name and not self._folder(bucket):
            await asyncio.to_thread(self._policies.forget, bucket)
        return answer

    async def _policy(self, request: Request, bucket: str) -> Response:
        if not self._folder(bucket):
            return _refusal(404, "notFound", "The specified bucket does not exist.")
        async with self._policies_change:
            if request.method == "GET":
                return JSONResponse(await asyncio.to_thread(self._policies.read, bucket))
            if request.method != "PUT":
                return _refusal(405, "methodNotAllowed", "A bucket's policy is read by GET and set by PUT.")
            try:
                given = json.loads(await request.body())
                return JSONResponse(await asyncio.to_thread(self._policies.write, bucket, given))
            except BadPolicy as exc:
                return _refusal(exc.status, exc.reason, str(exc))
            except ValueError as exc:
                return _refusal(400, "parseError", f"The body is not JSON: {exc}")

    async def _listed(self, request: Request, bucket: str) -> Response:
        query = dict(request.query_params)
        folder, base = self._folder(bucket), f"http://{request.headers.get('host', '')}"

        def work() -> dict[str, Any]:
            return listing.page(bucket, folder.objects(query.get("prefix", "")), query, base)

        try:
            return JSONResponse(await asyncio.to_thread(work))
        except listing.BadListing as exc:
            return _refusal(400, "invalid", str(exc))

    async def _uploaded(self, request: Request, path: str, bucket: str) -> Response:
        """Begins one, or goes on with one of ours."""
        upload_id = request.query_params.get("upload_id", "")
        here = f"http://{request.headers.get('host', '')}"
        try:
            if request.method == "POST" and not upload_id:
                begun = self._uploads.begin(bucket, request.query_params, request.headers, await request.body())
                if begun is None:
                    return await self._passed(request, path)
                return Response(headers={"Location": f"{here}{path}?uploadType=resumable&upload_id={begun}"})
            if not upload_id.startswith(ID):
                return await self._passed(request, path)
            if request.method == "DELETE":
                self._uploads.cancel(upload_id)
                return Response(status_code=499)  # that is Cloud Storage's
            made, size = await self._uploads.take(upload_id, request.headers, request.stream(), self._folder(bucket))
        except BadUpload as exc:
            return _refusal(exc.status, exc.reason, str(exc))
        if made is None:
            return Response(status_code=308, headers={"Range": f"bytes=0-{size - 1}"} if size else {})
        return JSONResponse(listing.resource(bucket, made, here))

    def _is_meant(self, request: Request, bucket: str, name: str) -> bool:
        """Whether the object is of the generation that a read is about; fake-gcs-server does not look."""
        wanted = request.query_params.get("ifGenerationMatch")
        found = self._folder(bucket).object(name) if wanted else None
        return found is None or str(found.generation) == wanted

    async def _passed(self, request: Request, path: str) -> Response:
        content = request.stream() if _has_body(request) else None
        query = request.scope["query_string"]
        url = self._client.base_url.copy_with(raw_path=path.encode() + (b"?" + query if query else b""))
        headers = [(key, value) for key, value in request.headers.items() if key not in _HOP_BY_HOP]
        asked = self._client.build_request(request.method, url, headers=headers, content=content)
        try:
            answer = await self._client.send(asked, stream=True)
        except httpx.TransportError as exc:
            return _refusal(503, "backendError", f"fake-gcs-server does not answer: {exc}")
        kept = {key: value for key, value in answer.headers.items() if key not in _HOP_BY_HOP}
        if request.method in _READS:
            return StreamingResponse(_raw(answer), answer.status_code, kept)
        body = b"".join([chunk async for chunk in _raw(answer)])
        if answer.is_success:
            await asyncio.to_thread(self._take_over, path, body)
        # What the file system refuses (an object a/b beside one that is called a) it will refuse again: no retries.
        status = 400 if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR else answer.status_code
        return Response(body, status, kept)

    def _settle(self, path: str, *, every: bool = False) -> None:
        """Describe what a request reads, `every` object of the bucket if it may be any."""
        bucket, name = _named(path)
        folder = self._folder(bucket)
        if not folder:
            return
        for one in [o.name for o in folder.objects()] if every else [name]:
            folder.settle(one)

    def _take_over(self, path: str, body: bytes) -> None:
        """What a request wrote, as its answer names it: JSON, or nothing where the path says it."""
        bucket, name = _named(path)
        try:
            answered = json.loads(body)
        except ValueError:
            answered = None
        if isinstance(answered, dict):
            written = answered.get("resource", answered)
            if not isinstance(written, dict) or written.get("kind") != "storage#object":
                return
            bucket, name = str(written.get("bucket", "")), str(written.get("name", ""))
        folder = self._folder(bucket)
        if folder and name:
            folder.hand_over(name)
            folder.settle(name)

    def _folder(self, bucket: str) -> Folder:
        safe = bucket not in {"", ".", ".."} and "/" not in bucket and "\0" not in bucket
        return Folder(self._buckets / bucket if safe else Path("/dev/null"))


def _named(path: str) -> tuple[str, str]:
    """The bucket and the object that a path names, "" for none; of a copy, what is copied."""
    found = _JSON_API.fullmatch(path) or _XML_API.fullmatch(path)
    return (unquote(found[1]), unquote(found[2] or "")) if found else ("", "")


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


async def _raw(answer: httpx.Response) -> AsyncIterator[bytes]:
    """As it came, compressed or not."""
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


def _refusal(status: int, reason: str, message: str) -> JSONResponse:
    error = {"code": status, "message": message, "errors": [{"domain": "global", "reason": reason, "message": message}]}
    return JSONResponse({"error": error}, status)
