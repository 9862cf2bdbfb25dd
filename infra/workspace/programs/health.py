#!/opt/onmemos/python/bin/python3 -IS
"""The image's HEALTHCHECK: exit 0 if the agent answers 200 to GET /health, wherever it listens; else 1, and why."""

import os
import socket
import sys

TIMEOUT_S = 2.0
STATUS_BYTES = 64
HEALTHY = b" 200 "


def main() -> int:
    place = os.environ.get("ONMEMOS_AGENT_SOCKET") or int(os.environ.get("PORT") or 8080)
    try:
        answer = _ask(place)
    except OSError as exc:
        return _unhealthy(f"{place} cannot be reached: {exc}")
    return 0 if HEALTHY in answer else _unhealthy(f"{place} answered {answer!r}; wanted status 200")


def _ask(place: str | int) -> bytes:
    """The status line of the answer."""
    family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(place if isinstance(place, str) else ("127.0.0.1", place))
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
        return connection.recv(STATUS_BYTES).partition(b"\r\n")[0]


def _unhealthy(why: str) -> int:
    sys.stderr.write(f"health: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
