"""The local stack: starts the emulators, the gateway and the functions, watches them, and ends them.

    async with Stack(Settings.from_environment()) as stack:
        ...                      # stack.base_url answers
        await stack.failure()    # waits until one of its processes ends by itself

Nothing outlives it: not on leaving, not after an error at the start, not when this process is killed.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from infra.local import home, ports, storage
from infra.local.children import Child, Children, ChildFailed, Program
from infra.local.settings import PROJECT, Firestore, Settings

READY_TIMEOUT_S = 60.0
HOST = ports.HOST

CLOUD = {
    "GOOGLE_CLOUD_PROJECT": "onmemos-local",
    "ONMEMOS_LOCATION": "us-central1",
    "ONMEMOS_IMAGE": "onmemos/workspace-{template}:local",
    "ONMEMOS_TASK_ACCOUNT": "tasks@onmemos-local.iam.gserviceaccount.com",
    "ONMEMOS_CLOSED_SUBNETWORK": "projects/onmemos-local/regions/us-central1/subnetworks/closed",
}

Tell = Callable[[str, str], None]


class StackFailed(Exception):
    """The stack could not be started, or one of its processes ended; the message says which and why."""
