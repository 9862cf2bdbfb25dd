"""Cloud Tasks (google.cloud.tasks.v2) on this machine: queues and HTTP tasks that survive a restart."""

from infra.emulators.tasks.service import CloudTasks

__all__ = ["CloudTasks"]
