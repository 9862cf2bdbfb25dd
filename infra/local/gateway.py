"""API Gateway's stand-in: the public routes of the route table, each workspace's own URL, and nothing else."""

import re
from collections.abc import Iterable

from infra.local.calls import Functions, Receive, Scope, Send, refusal
from infra.local.workspaces import Workspaces
from shared.http import Access, Route

WORKSPACES = "/run/"  # a path and not a host name: names under .localhost do not resolve everywhere

# ESPv2's words, which is what API Gateway runs: github.com/GoogleCloudPlatform/esp-v2
UNKNOWN_PATH = "The current request is not defined by this API."
UNKNOWN_METHOD = (
    'The current request is matched to the defined url template "{template}" but its http method is not allowed'
)


class Gateway:
    """An ASGI application. A route is found by its path first, so a known path with another method is a 405."""

    def __init__(self, routes: Iterable[Route], functions: Functions, workspaces: Workspaces) -> None:
        self._paths = _paths(route for route in routes if route.access is not Access.TASK)
        self._functions = functions
        self._workspaces = workspaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(WORKSPACES):
            service, _, rest = _raw_path(scope).removeprefix(WORKSPACES).partition("/")
            await self._workspaces.pass_on(service, f"/{rest}", scope, receive, send)
            return
        for pattern, template, methods in self._paths:
            if pattern.fullmatch(path):
                name = methods.get(scope["method"])
                if name is not None:
                    await self._functions.call(name, scope, receive, send)
                else:
                    await refusal(405, UNKNOWN_METHOD.format(template=template))(scope, receive, send)
                return
        await refusal(404, UNKNOWN_PATH)(scope, receive, send)


def _paths(routes: Iterable[Route]) -> list[tuple[re.Pattern[str], str, dict[str, str]]]:
    """(pattern, template, function by method), in the order to try them: fixed words go before parameters."""
    methods: dict[str, dict[str, str]] = {}
    for route in routes:
        methods.setdefault(route.path, {})[route.method] = route.name
    templates = sorted(methods, key=lambda template: [part.startswith("{") for part in template.split("/")])
    return [(_pattern(template), template, methods[template]) for template in templates]


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in _parts(template)))


def _parts(template: str) -> list[str]:
    return re.split(r"(\{\w+\})", template)


def _raw_path(scope: Scope) -> str:
    """The path as the client wrote it, with its percent-encoding."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")
