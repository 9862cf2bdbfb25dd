"""What an hour of a workspace costs, and how long it takes to start: list prices of us-central1, without discounts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shared.models import ProviderName, Resources

PRICES_OF = "2026-11"
GIB = 1 << 30
# An instance of 1 vCPU and 2 GiB costs 0.015 $ an hour, a service 0.0792 $: cloud.google.com/run/pricing
INSTANCE_SHARE = 0.19
LEAST_WORKSTATION_CPUS = 2  # the smallest machine that workstations run on: e2-standard-2


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars an hour for a vCPU and for a GiB of memory; what is paid beside the session, in words."""

    vcpu: float
    gib: float
    beside: str = ""


PRICES: Mapping[ProviderName, Price] = {
    # cloud.google.com/run/pricing: instance-based billing, 0.000018 $ a vCPU-second, 0.000002 $ a GiB-second
    ProviderName.CLOUD_RUN: Price(0.0648, 0.0072),
    # cloud.google.com/kubernetes-engine/pricing: Autopilot, general purpose
    ProviderName.GKE: Price(0.0445, 0.0049225, "the cluster costs 0.10 $ an hour, once for all sessions"),
    # cloud.google.com/workstations/pricing: 0.05 $ a vCPU-hour on top of an e2-standard machine, memory included
    ProviderName.WORKSTATIONS: Price(
        0.0835, 0.0, "the workstation cluster costs 0.20 $ an hour, once for all sessions; a disk is extra"
    ),
}

# Until the first command: Cloud Run pulls and starts a container, GKE Autopilot may have to add a node, a workstation
# boots a machine. Experience, not promises of the platforms.
START_S: Mapping[ProviderName, int] = {
    ProviderName.CLOUD_RUN: 10,
    ProviderName.GKE: 60,
    ProviderName.WORKSTATIONS: 120,
}


def cost_per_hour(provider: ProviderName, resources: Resources, share: float = 1.0) -> float:
    """US dollars, to a hundredth of a cent; `share`: what the provider takes of its list price."""
    price = PRICES[provider]
    cpus = resources.cpu
    if provider is ProviderName.WORKSTATIONS:
        cpus = max(LEAST_WORKSTATION_CPUS, math.ceil(cpus))
    return round(share * (cpus * price.vcpu + resources.memory_bytes / GIB * price.gib), 4)
