"""Which deployment is meant: as options or the environment say, else the local stack that runs in this folder."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

URL = "http://localhost:8080"
URL_VARIABLE, KEY_VARIABLE = "ONMEMOS_URL", "ONMEMOS_API_KEY"
STACK_FILE = Path(".onmemos", "env")  # there while `make up` runs
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the API is and what opens it. `timeout_s`: patience for an answer beyond what the call itself takes."""

    url: str
    api_key: str | None = field(repr=False)
    timeout_s: float


def deployment(url: str | None, api_key: str | None, timeout_s: float, folder: Path) -> Deployment:
    """What is given wins; where neither URL nor key is, the stack of `folder` is meant.

    Its file never completes what is given: a key would travel to the address that some folder names.
    """
    if not url and not api_key:
        stack = _read(folder / STACK_FILE)
        if urlsplit(stack.get(URL_VARIABLE, "")).hostname in LOOPBACK:
            url, api_key = stack[URL_VARIABLE], stack.get(KEY_VARIABLE)
    return Deployment(url or URL, api_key or None, timeout_s)


def _read(path: Path) -> dict[str, str]:
    """The NAME=value lines of a file for shells; empty where there is none to read."""
    try:
        words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    except (OSError, ValueError):
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)
