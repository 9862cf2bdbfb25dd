"""The cluster and the configs that Terraform makes in the cloud, made here with the same client."""

import asyncio
from collections.abc import Iterable

import grpc.aio
from google.api_core import exceptions
from google.cloud import workstations_v1
from google.cloud.workstations_v1 import types
from google.cloud.workstations_v1.services.workstations.transports import WorkstationsGrpcAsyncIOTransport
from google.protobuf.duration_pb2 import Duration

from shared.templates import Template

TIMEOUT_S = 10.0
AGENT_PORT = 8080
WORKSPACE = "/workspace"
DISK_GB = 10
# A session ends by its own TTL and its own idle timeout: the platform's would end it before.
NEVER = Duration(seconds=0)


async def ensure_workstations(
    emulator: str, cluster: str, config: str, templates: Iterable[Template], machine_type: str = "e2-standard-2"
) -> None:
    """Make the cluster and each template's config, or give the one that is there what it should have.

    `emulator` is Cloud Workstations' "host:port"; `cluster` a full name; `config` an id that holds `{template}`.
    """
    parent, _, cluster_id = cluster.rpartition("/workstationClusters/")
    async with grpc.aio.insecure_channel(emulator) as channel:
        client = workstations_v1.WorkstationsAsyncClient(transport=WorkstationsGrpcAsyncIOTransport(channel=channel))
        try:
            operation = await client.create_workstation_cluster(
                parent=parent,
                workstation_cluster_id=cluster_id,
                workstation_cluster=types.WorkstationCluster(),
                timeout=TIMEOUT_S,
            )
            await operation.result(timeout=TIMEOUT_S)
        except exceptions.AlreadyExists:
            pass
        await asyncio.gather(
            *(_ensure_config(client, cluster, config.format(template=one.name), one, machine_type) for one in templates)
        )


async def _ensure_config(
    client: workstations_v1.WorkstationsAsyncClient, cluster: str, config_id: str, template: Template, machine_type: str
) -> None:
    wanted = types.WorkstationConfig(
        name=f"{cluster}/workstationConfigs/{config_id}",
        display_name=template.description[:63],
        idle_timeout=NEVER,
        running_timeout=NEVER,
        host={"gce_instance": {"machine_type": machine_type}},
        container={"image": template.image},
        persistent_directories=[
            {
                "mount_path": WORKSPACE,
                "gce_pd": {"size_gb": DISK_GB, "disk_type": "pd-balanced", "reclaim_policy": "DELETE"},
            }
        ],
        readiness_checks=[{"path": "/health", "port": AGENT_PORT}],
    )
    try:
        operation = await client.create_workstation_config(
            parent=cluster, workstation_config_id=config_id, workstation_config=wanted, timeout=TIMEOUT_S
        )
    except exceptions.AlreadyExists:
        request = types.UpdateWorkstationConfigRequest(workstation_config=wanted, update_mask={"paths": ["*"]})
        operation = await client.update_workstation_config(request, timeout=TIMEOUT_S)
    await operation.result(timeout=TIMEOUT_S)
