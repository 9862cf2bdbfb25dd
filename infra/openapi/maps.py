"""Terraform's maps: of the functions from the route table, and of the queues from the steps."""

from typing import Any

import main  # noqa: F401  enters every function into the route table
from infra.queues import STEPS
from shared.cloud_tasks import FUNCTIONS
from shared.http import ROUTES


def functions() -> dict[str, dict[str, Any]]:
    """terraform/functions.json: of each function who may call it, its operation, and how many seconds it may take."""
    return {
        name: {
            "access": str(route.access),
            "method": route.method,
            "path": route.path,
            "timeout_s": route.timeout_s,
        }
        for name, route in sorted(ROUTES.items())
    }


def queues() -> dict[str, dict[str, Any]]:
    """terraform/queues.json: of each step the function that it calls, and google_cloud_tasks_queue's retry_config."""
    return {
        step: {
            "function": FUNCTIONS[step],
            "max_attempts": retries.attempts,
            "min_backoff": f"{retries.first_s:g}s",
            "max_backoff": f"{retries.longest_s:g}s",
            "max_doublings": retries.doublings,
        }
        for step, retries in STEPS.items()
    }
