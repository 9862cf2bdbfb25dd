"""The functions' own addresses, `/<function>/...`: where Cloud Tasks pushes, and a way to call any function alone."""

from starlette.types import Receive, Scope, Send

from infra.local.calls import Functions, refusal


class FunctionsHost:
    """An ASGI application. A function sees what follows its name as its path, as on a host of its own."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].lstrip("/").partition("/")[0]
        if name not in self._functions:
            await refusal(404, f"there is no function '{name}'")(scope, receive, send)
            return
        await self._functions.call(name, {**scope, "root_path": f"/{name}"}, receive, send)
