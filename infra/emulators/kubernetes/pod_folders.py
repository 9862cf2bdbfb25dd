"""The folders that one Pod has on its node: the volumes that are put up for it, and its logs."""

import asyncio
import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra.emulators.kubernetes.objects import Object
from infra.emulators.kubernetes.pod_volumes import NotMounted, Volumes
from infra.sandbox.spec import Mount


class PodFolders:
    """`logs`/<uid>/<container>/<restarts>.log is what a container printed."""

    def __init__(self, volumes: Volumes, logs: Path, uid: str) -> None:
        self._volumes = volumes
        self._logs = logs / uid
        self._uid = uid
        self._put_up: dict[str, Path] = {}
        self._turn = asyncio.Lock()  # what is taken down is not written into at the same time

    def log(self, container: str, restarts: int) -> Path:
        return self._logs / container / f"{restarts}.log"

    async def put_up(self, pod: Object) -> None:
        """Raises NotMounted."""
        if pod["spec"].get("volumes"):
            async with self._turn:
                self._put_up = await asyncio.to_thread(self._volumes.put_up, pod)

    async def refresh(self, pod: Object) -> None:
        """Write the files of Secrets and ConfigMaps anew; what is missing now keeps its old ones."""
        async with self._turn:
            if self._put_up:
                with contextlib.suppress(NotMounted):
                    await asyncio.to_thread(self._volumes.put_up, pod)

    def mounts(self, pod: Object, container: Object, env: Mapping[str, str]) -> Iterator[Mount]:
        """Raises ConfigMissing."""
        return self._volumes.mounts(pod, container, self._put_up, env)

    async def delete(self) -> None:
        async with self._turn:
            self._put_up = {}
            await asyncio.to_thread(self._delete)

    def _delete(self) -> None:
        self._volumes.take_down(self._uid)
        shutil.rmtree(self._logs, ignore_errors=True)
