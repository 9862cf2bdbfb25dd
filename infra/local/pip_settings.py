"""How this machine's pip reaches its package index, in the form in which a session's pip takes it.

Such settings may hold credentials: they are given to single commands, and are never shown or logged.
"""

import asyncio
import re
import sys
from pathlib import Path

CERTIFICATES = "certificates"  # a key beside the variables: a bundle's text, for a file where PIP_CERT points
CERTIFICATES_FILE = "/workspace/.pip-certificates.pem"
SEEN_INSIDE = ("/etc/ssl/", "/etc/pki/")  # a session has the system's own certificates
TIMEOUT_S = 20.0
_LINE = re.compile(r"(?P<level>[\w:]+)\.(?P<name>[\w-]+)='(?P<value>.*)'")


async def of_this_machine() -> dict[str, str]:
    """PIP_* variables, and under CERTIFICATES the text of a bundle that a session has not; {} if pip needs none."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pip", "config", "list",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return variables(output.decode(errors="replace"))


def variables(listing: str) -> dict[str, str]:
    """What `pip config list` says, as a session's variables."""
    found: dict[str, str] = {}
    for line in sorted(listing.splitlines(), key=lambda line: line.startswith(":env:")):  # the environment wins
        match = _LINE.fullmatch(line.strip())
        if match is not None:
            found[match["name"]] = match["value"]
    environment: dict[str, str] = {}
    for name in ("index-url", "extra-index-url"):
        reachable = [url for url in found.get(name, "").split() if url.startswith(("http://", "https://"))]
        if reachable:
            environment[f"PIP_{name.upper().replace('-', '_')}"] = " ".join(reachable)
    for name in ("trusted-host", "default-timeout"):
        if name in found:
            environment[f"PIP_{name.upper().replace('-', '_')}"] = found[name]
    bundle = found.get("cert", "")
    if bundle and not bundle.startswith(SEEN_INSIDE) and Path(bundle).is_file():
        environment["PIP_CERT"] = CERTIFICATES_FILE
        environment[CERTIFICATES] = Path(bundle).read_text(encoding="utf-8", errors="replace")
    return environment
