"""The stand-in of API Gateway and of the load balancer beside it, and nothing else has an address here.

The public routes of the route table go to their functions, the relay's to the relay; each workspace has its own URL.
"""

import re
from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from infra.local.calls import Functions, refusal
from infra.local.workspaces import Workspaces
from shared.http import Access, Route
from shared.passage import raw_path

WORKSPACES = "/run/"  # a path and not a host name: names under .localhost do not resolve everywhere

# ESPv2's words, which is what API Gateway runs: github.com/GoogleCloudPlatform/esp-v2
UNKNOWN_PATH = "The current request is not defined by this API."
UNKNOWN_METHOD = (
    'The current request is matched to the defined url template "{template}" but its http method is not allowed'
)


class Gateway:
    """An ASGI application. A route is found by its path first, so a known path with another method is a 405.

    The relay's routes are tried last: the functions' calls must not wait for that.
    """

    def __init__(self, routes: Iterable[Route], functions: Functions, workspaces: Workspaces, relay: Starlette) -> None:
        self._paths = _paths(route for route in routes if route.access is not Access.TASK)
        self._functions = functions
        self._workspaces = workspaces
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(WORKSPACES):
            service, _, rest = raw_path(scope)[len(WORKSPACES) :].partition(b"/")
            await self._workspaces.pass_on(service.decode("latin-1"), b"/" + rest, scope, receive, send)
        elif scope["type"] == "http":
            await self._call(path, scope, receive, send)
        else:
            await self._pass_to_relay(scope, receive, send)

    async def _call(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        for pattern, template, methods in self._paths:
            if pattern.fullmatch(path):
                name = methods.get(scope["method"])
                if name is not None:
                    await self._functions.call(name, scope, receive, send)
                else:
                    await refusal(405, UNKNOWN_METHOD.format(template=template))(scope, receive, send)
                return
        await self._pass_to_relay(scope, receive, send)

    async def _pass_to_relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        if any(route.matches(scope)[0] is Match.FULL for route in self._relay.routes):
            await self._relay(scope, receive, send)
        else:
            await refusal(404, UNKNOWN_PATH)(scope, receive, send)


def _paths(routes: Iterable[Route]) -> list[tuple[re.Pattern[str], str, dict[str, str]]]:
    """(pattern, template, function by method), in the order to try them: fixed words go before parameters.

    OPTIONS goes to any function of the path: they all answer it the same.
    """
    methods: dict[str, dict[str, str]] = {}
    for route in routes:
        methods.setdefault(route.path, {"OPTIONS": route.name})[route.method] = route.name
    templates = sorted(methods, key=lambda template: [part.startswith("{") for part in template.split("/")])
    return [(_pattern(template), template, methods[template]) for template in templates]


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in _parts(template)))


def _parts(template: str) -> list[str]:
    return re.split(r"(\{\w+\})", template)
