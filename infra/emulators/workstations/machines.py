"""Machine types of Compute Engine as limits of a sandbox on this machine."""

import os
import re

from infra.sandbox.spec import GIB, MINIMUM_MEMORY_BYTES, Limits

DEFAULT = "e2-standard-4"  # WorkstationConfig.Host.GceInstance.BoostConfig.machine_type

# cloud.google.com/workstations/docs/available-machine-types; GiB a vCPU: cloud.google.com/compute/docs/machine-resource
_TYPE = re.compile(r"(?:e2|n1|n2|n2d|n4|c2|c2d|c3|c3d|t2d)-(standard|highmem|highcpu)-([1-9][0-9]{0,2})")
_GIB_A_CPU = {"standard": 4, "highmem": 8, "highcpu": 1}
_SHARED_CORE = {"e2-micro": (2, 1), "e2-small": (2, 2), "e2-medium": (2, 4)}


def size(machine_type: str) -> tuple[int, int]:
    """vCPUs, and bytes of memory. Raises ValueError: no machine is called that."""
    if machine_type in _SHARED_CORE:
        cpu, gib = _SHARED_CORE[machine_type]
        return cpu, gib * GIB
    match = _TYPE.fullmatch(machine_type)
    if match is None:
        raise ValueError(f"must be a machine type such as {DEFAULT}, got '{machine_type}'")
    cpu = int(match[2])
    return cpu, cpu * _GIB_A_CPU[match[1]] * GIB


def limits(machine_type: str) -> Limits:
    """No more than this machine has, and no less than a container needs. Raises ValueError."""
    cpu, memory_bytes = size(machine_type)
    here_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Limits(
        cpu=float(min(cpu, os.cpu_count() or 1)),
        memory_bytes=max(min(memory_bytes, here_bytes), MINIMUM_MEMORY_BYTES),
    )
