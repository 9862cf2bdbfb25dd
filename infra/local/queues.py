"""The queues that Terraform makes in the cloud, made here with the same client."""

import grpc.aio
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.protobuf.duration_pb2 import Duration

from infra.queues import STEPS, Retries

TIMEOUT_S = 10.0


def _config(retries: Retries) -> tasks_v2.RetryConfig:
    return tasks_v2.RetryConfig(
        max_attempts=retries.attempts,
        min_backoff=Duration(nanos=round(retries.first_s * 1e9)),
        max_backoff=Duration(seconds=round(retries.longest_s)),
        max_doublings=retries.doublings,
    )


async def ensure_queues(emulator: str, parent: str, queue: str) -> None:
    """Make each step's queue below `parent`, or give the one that is there these retries.

    `emulator` is Cloud Tasks' "host:port"; `queue` holds `{step}`.
    """
    async with grpc.aio.insecure_channel(emulator) as channel:
        client = tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
        for step, retries in STEPS.items():
            wanted = tasks_v2.Queue(name=f"{parent}/queues/{queue.format(step=step)}", retry_config=_config(retries))
            try:
                await client.create_queue(parent=parent, queue=wanted, timeout=TIMEOUT_S)
            except exceptions.AlreadyExists:
                await client.update_queue(queue=wanted, update_mask={"paths": ["retry_config"]}, timeout=TIMEOUT_S)
