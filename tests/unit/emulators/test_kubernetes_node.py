"""The node's parts, with a runtime that only counts: what a Pod asks for, what it is shown, what a restart leaves."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from infra.emulators.kubernetes.clusterevents import NORMAL, Recorder
from infra.emulators.kubernetes.kinds import EVENTS, PODS, SECRETS, SERVICE_ACCOUNTS
from infra.emulators.kubernetes.kubelet import Kubelet
from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.pod_env import ConfigMissing
from infra.emulators.kubernetes.pod_resources import pod_amounts
from infra.emulators.kubernetes.pod_volumes import NotMounted, Volumes, mounts_files_of
from infra.emulators.kubernetes.pod_worker import NodeParts
from infra.emulators.kubernetes.statuses import NotFound
from infra.emulators.run.specs import Folders
from infra.sandbox.spec import ContainerSpec, SandboxError

NODE = "here"
AMOUNTS = {"cpu": Decimal(4), "memory": Decimal(8 << 30)}


class NothingStarts:
    """Every start is noted, and fails."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.started: list[str] = []

    async def start(self, spec: ContainerSpec) -> Any:
        self.started.append(spec.name)
        raise SandboxError("nothing starts here")

    async def remove(self, name: str) -> None:
        pass

    async def close(self) -> None:
        pass


@dataclass
class Clock:
    moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> str:
        return timestamp(self.moment)


@pytest_asyncio.fixture
async def objects(tmp_path: Path) -> AsyncIterator[Objects]:
    store = Objects(tmp_path / "objects.sqlite")
    yield store
    store.close()


def volumes_of(objects: Objects, folder: Path) -> Volumes:
    def no_account(namespace: str, account: str, audiences: list[str], seconds: int) -> str:
        raise NotFound(SERVICE_ACCOUNTS, account)

    folders = Folders(folder / "buckets", folder / "filestore", folder / "scratch")
    return Volumes(objects, folders, folder / "volumes", AMOUNTS, no_account)


def a_pod(**spec: Any) -> Object:
    containers = [{"name": "c", "image": "busybox", "command": ["true"]}]
    metadata = {"name": "p", "namespace": "n", "uid": "00000000-0000-0000-0000-000000000001"}
    return {"metadata": metadata, "spec": {"containers": containers, **spec}}


async def test_a_pod_whose_account_has_gone_is_not_mounted_yet(objects: Objects, tmp_path: Path) -> None:
    token = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    with pytest.raises(NotMounted, match='failed to fetch token: serviceaccounts "default" not found'):
        volumes_of(objects, tmp_path).put_up(a_pod(volumes=[{"name": "v", **token}]))


@pytest.mark.parametrize("left", ["a file", "a circle"])
async def test_what_a_container_left_in_the_way_of_a_sub_path_is_told(
    objects: Objects, tmp_path: Path, left: str
) -> None:
    volumes, pod = volumes_of(objects, tmp_path), a_pod(volumes=[{"name": "v", "emptyDir": {}}])
    folder = volumes.put_up(pod)["v"]
    if left == "a file":
        (folder / "a").write_text("")
    else:
        (folder / "a").symlink_to(folder / "a")
    container = {"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a/b"}]}
    with pytest.raises(ConfigMissing, match="failed to prepare subPath"):
        list(volumes.mounts(pod, container, {"v": folder}, {}))


async def test_a_file_of_a_secret_is_whole_at_any_moment(objects: Objects, tmp_path: Path) -> None:
    secret = await objects.create(SECRETS, {"metadata": {"name": "s", "namespace": "n"}, "data": {"k": "YQ=="}})
    volumes, pod = volumes_of(objects, tmp_path), a_pod(volumes=[{"name": "v", "secret": {"secretName": "s"}}])
    file = volumes.put_up(pod)["v"] / "k"
    with file.open("rb") as open_before:
        await objects.update(SECRETS, {**secret, "data": {"k": "Yg=="}})
        volumes.put_up(pod)
        assert (open_before.read(), file.read_bytes()) == (b"a", b"b")
    assert [path.name for path in file.parent.iterdir()] == ["k"]


@pytest.mark.parametrize(
    ("volume", "shows"),
    [
        ({"secret": {"secretName": "s"}}, True),
        ({"secret": {"secretName": "other"}}, False),
        ({"configMap": {"name": "s"}}, False),
        ({"projected": {"sources": [{"secret": {"name": "s"}}]}}, True),
        ({"projected": {"sources": [{"configMap": {"name": "s"}}]}}, False),
    ],
)
def test_files_are_written_anew_for_who_is_shown_them(volume: Object, shows: bool) -> None:
    pod = a_pod(volumes=[{"name": "v", **volume}])
    assert mounts_files_of(pod, SECRETS, {"name": "s", "namespace": "n"}) is shows
    assert not mounts_files_of(pod, SECRETS, {"name": "s", "namespace": "m"})


async def test_what_was_being_deleted_when_the_node_ended_is_not_started_again(
    objects: Objects, tmp_path: Path
) -> None:
    await objects.create(PODS, a_pod(nodeName=NODE))
    await objects.delete(PODS, "n", "p", grace_s=30)
    runtime = NothingStarts()
    async with Recorder(objects, Clock()) as recorder:
        parts = NodeParts(
            objects=objects,
            runtime=runtime,
            recorder=recorder,
            volumes=volumes_of(objects, tmp_path),
            logs=tmp_path / "logs",
            allocatable=AMOUNTS,
            now=Clock(),
        )
        watch = objects.open_watch(PODS)
        async with Kubelet(parts, NODE), asyncio.timeout(5):
            while objects.list(PODS)[0]:
                await watch.next()
    assert runtime.started == []


async def test_events_are_kept_for_an_hour(objects: Objects) -> None:
    clock = Clock()
    about = {"kind": "Pod", "apiVersion": "v1", **a_pod()}
    async with Recorder(objects, clock) as recorder:
        for reason in ("Old", "New"):
            recorder.tell(about, NORMAL, reason, "", by="test")
            watch = objects.open_watch(EVENTS, objects.resource_version)
            await watch.next(5)
            clock.moment += timedelta(minutes=40)
        await recorder.sweep()
    assert [one["reason"] for one in objects.list(EVENTS)[0]] == ["New"]


def asking(cpu: str, **more: str) -> Object:
    return {"resources": {"requests": {"cpu": cpu}}, **more}


@pytest.mark.parametrize(
    ("inits", "overhead", "wanted"),
    [
        ([], {}, "3"),
        ([asking("5")], {}, "5"),
        ([asking("1", restartPolicy="Always")], {}, "4"),
        ([asking("2", restartPolicy="Always"), asking("4")], {}, "6"),
        ([asking("4"), asking("2", restartPolicy="Always")], {}, "5"),
        ([], {"cpu": "250m"}, "3.25"),
    ],
)
def test_a_pod_asks_for_what_it_needs_at_a_time(inits: list[Object], overhead: Object, wanted: str) -> None:
    spec = {"containers": [asking("1"), asking("2")], "initContainers": inits, "overhead": overhead}
    assert pod_amounts(spec, "requests") == {"cpu": Decimal(wanted)}
    assert pod_amounts(spec, "limits") == {}
