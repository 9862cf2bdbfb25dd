"""functions.yaml: what the Firebase CLI reads instead of asking a library of its own which functions there are."""

from typing import Any

import yaml

import main  # noqa: F401  enters every function into the route table
from shared.http import ROUTES, Access

NOTE = "# Written by `python -m infra.openapi` from the route table.\n"
PREFIX = "onmemos"  # of their names in the cloud, as Terraform's variable `name` has it
CONCURRENCY = 80


def functions_yaml() -> str:
    """The file's text. Functions have the names that Terraform gives them; any caller gets in as far as their door."""
    endpoints: dict[str, Any] = {
        f"{PREFIX}-{name.replace('_', '-')}": {
            "platform": "gcfv2",
            "entryPoint": name,
            "timeoutSeconds": route.timeout_s,
            "concurrency": CONCURRENCY,
            "httpsTrigger": {"invoker": ["private" if route.access is Access.TASK else "public"]},
        }
        for name, route in sorted(ROUTES.items())
    }
    text: str = yaml.safe_dump({"specVersion": "v1alpha1", "endpoints": endpoints}, sort_keys=False)
    return NOTE + text
