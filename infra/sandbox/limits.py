"""Which kind of control groups this machine has for us."""

import os
import shutil
from pathlib import Path

from infra.sandbox.cgroups import FolderGroups, Groups, v1_parents, v2_parents
from infra.sandbox.systemd import SystemdGroups


def open_groups(tag: str) -> Groups | None:
    """The first kind of control groups that may work here; None where there is none. A trial start decides."""
    mounts = Path("/proc/self/mountinfo").read_text()
    own = Path("/proc/self/cgroup").read_text()
    parents = v1_parents(tag, mounts, own) or v2_parents(tag, mounts, own)
    if parents is not None:
        return FolderGroups(parents)
    if Path("/run/systemd/system").is_dir() and shutil.which("busctl"):
        return SystemdGroups(tag, "--system" if os.geteuid() == 0 else "--user")
    return None
