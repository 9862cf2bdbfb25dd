"""Calls of functions in this process, as the platform makes them: within the function's own time limit."""

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from shared.http import Function, Route


def refusal(status: int, message: str) -> Response:
    """An error in the shape of Google's API Gateway."""
    return JSONResponse({"code": status, "message": message}, status)


class Functions:
    """The functions by name. `functions` and `routes` are `shared.http`'s tables."""

    def __init__(self, functions: Mapping[str, Function], routes: Mapping[str, Route]) -> None:
        self._functions = functions
        self._routes = routes

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    async def call(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A function that takes longer than it may is cancelled: 504, as from the platform."""
        limit_s = self._routes[name].timeout_s
        try:
            async with asyncio.timeout(limit_s):
                response = await self._functions[name](Request(scope, receive))
        except TimeoutError:
            response = refusal(504, "upstream request timeout")
        await response(scope, receive, send)
