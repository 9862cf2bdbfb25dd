"""What the agent's process leaves out, and that it serves and verifies tickets without it."""

import subprocess
import sys

AS_THE_AGENT = """
import sys
from infra.workspace.agent.loading import UNUSED, without
before = set(sys.modules)
without(*UNUSED)
import infra.workspace.agent.server, infra.workspace.agent.tickets, uvicorn.lifespan.off
import uvicorn.protocols.http.httptools_impl, infra.workspace.agent.websocket
print(*sorted(set(sys.modules) - before))
"""


def test_the_agents_process_has_no_command_line_no_http_client_and_no_certificates() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", AS_THE_AGENT], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert {"uvicorn.server", "jwt.algorithms", "websockets.server"} <= set(loaded)
    unwanted = (
        "uvicorn.supervisors",
        "click",
        "multiprocessing",
        "urllib.request",
        "cryptography.x509.base",
        "logging.handlers",
        "zipfile",
    )
    assert [name for name in unwanted if name in loaded] == []
