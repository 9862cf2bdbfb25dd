"""gRPC servers without generated stubs: one generic handler a service, from coroutines over proto-plus messages."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.api_core import exceptions
from google.protobuf import message as protobuf

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: `call(request)` answers one message; with `streams`, it is an async generator over messages.

    `request` and `response` are the message classes, proto-plus or plain protobuf. `streams` is "unary" (the default),
    "response" (server streaming) or "both".
    """

    call: Callable[..., Any]
    request: Any
    response: Any
    streams: str = "unary"


def service(name: str, methods: dict[str, Method]) -> grpc.GenericRpcHandler:
    """Serve `name` (as in `google.cloud.run.v2.Services`). A method that is not named here is UNIMPLEMENTED.

    A handler refuses a call by raising a `google.api_core.exceptions` class; its gRPC code and message are what the
    client sees. Anything else raised is logged and becomes INTERNAL without its text.
    """
    return grpc.method_handlers_generic_handler(name, {method: _handler(m) for method, m in methods.items()})


def _handler(method: Method) -> grpc.RpcMethodHandler:
    codec = {
        "request_deserializer": _deserializer(method.request),
        "response_serializer": _serializer(method.response),
    }
    if method.streams == "unary":
        return grpc.unary_unary_rpc_method_handler(_unary(method.call), **codec)
    if method.streams == "response":
        return grpc.unary_stream_rpc_method_handler(_stream(method.call), **codec)
    return grpc.stream_stream_rpc_method_handler(_stream(method.call), **codec)


def _unary(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def serve(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await call(request)
        except Exception as exc:
            await _refuse(exc, context)

    return serve


def _stream(call: Callable[..., Any]) -> Callable[..., Any]:
    async def serve(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            async for response in call(request):
                yield response
        except Exception as exc:
            await _refuse(exc, context)

    return serve


async def _refuse(exc: Exception, context: grpc.aio.ServicerContext) -> None:
    if isinstance(exc, exceptions.GoogleAPICallError) and exc.grpc_status_code is not None:
        await context.abort(exc.grpc_status_code, exc.message)
    if isinstance(exc, grpc.aio.AbortError):
        raise exc
    log.error("an emulator failed", exc_info=exc)
    await context.abort(grpc.StatusCode.INTERNAL, "internal error in the emulator; see its log")


def _deserializer(message_class: Any) -> Callable[[bytes], Any]:
    if issubclass(message_class, protobuf.Message):
        return message_class.FromString  # type: ignore[no-any-return]
    return message_class.deserialize  # type: ignore[no-any-return]


def _serializer(message_class: Any) -> Callable[[Any], bytes]:
    if issubclass(message_class, protobuf.Message):
        return message_class.SerializeToString  # type: ignore[no-any-return]
    return message_class.serialize  # type: ignore[no-any-return]
