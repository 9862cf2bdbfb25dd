"""A quicker start: what packages import on their own account, and this process never uses, is not loaded."""

import sys
from types import ModuleType

# uvicorn's command line and reloader and its logs' configuration, PyJWT's HTTP client, certificates: a quarter of what
# the agent's start costs. What websockets looks up its version with before a release: half of the first WebSocket.
UNUSED = ("uvicorn.main", "logging.config", "jwt.jwks_client", "cryptography.x509", "importlib.metadata")


def without(*modules: str) -> None:
    """Put an empty module, of which every name is None, in the place of each that is not loaded yet."""
    for name in modules:
        empty = ModuleType(name)
        empty.__getattr__ = lambda _: None  # type: ignore[method-assign]  # PEP 562
        sys.modules.setdefault(name, empty)
