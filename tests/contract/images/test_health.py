"""HEALTHCHECK's program against whatever may be at the port."""

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from infra.workspace.programs import health

SOON_S = 10.0


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_it_asks_for_health_at_the_port(status: int, code: int) -> None:
    paths = []

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Agent) as server:
        Thread(target=server.handle_request, daemon=True).start()
        done = ask(PORT=str(server.server_port))
    assert (done.returncode, paths) == (code, ["/health"])
    assert done.stderr == "" if code == 0 else "wanted status 200" in done.stderr


def test_where_nobody_listens_it_says_so(tmp_path: Path) -> None:
    done = ask(ONMEMOS_AGENT_SOCKET=str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"health: {tmp_path}/none cannot be reached: ")


def ask(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-IS", health.__file__], env=environment, capture_output=True, text=True, timeout=SOON_S,
        check=False,
    )  # fmt: skip
