"""Which Pods the scheduler binds, and that one it cannot make sense of is not in the others' way."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from infra.emulators.kubernetes.clusterevents import Recorder
from infra.emulators.kubernetes.kinds import NODES, PODS
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.scheduler import Scheduler

NODE = "here"


def now() -> str:
    return "2026-01-01T00:00:00Z"


@pytest_asyncio.fixture
async def objects(tmp_path: Path) -> AsyncIterator[Objects]:
    """A node with labels, and a scheduler."""
    store = Objects(tmp_path / "objects.sqlite")
    resources = {"cpu": "4", "memory": "8Gi", "pods": "10"}
    node = {"metadata": {"name": NODE, "labels": {"disk": "ssd", "size": "7"}}, "spec": {}}
    await store.create(NODES, {**node, "status": {"allocatable": resources}})
    async with Recorder(store, now) as recorder, Scheduler(store, recorder, NODE, now):
        yield store
    store.close()


def a_pod(name: str, **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "n"}, "spec": {"containers": [{"name": "c"}], **spec}}


def with_terms(*terms: Object) -> Object:
    needed = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"nodeAffinity": needed}


def asking(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator, "values": list(values)}


async def decided(objects: Objects, pod: Object) -> str:
    """The node that the Pod got, or why it got none."""
    await objects.create(PODS, pod)
    async with asyncio.timeout(5):
        async for event in objects.watch(PODS):
            seen = event.object
            if seen["metadata"]["name"] == pod["metadata"]["name"]:
                if node := seen["spec"].get("nodeName"):
                    return str(node)
                for condition in (seen.get("status") or {}).get("conditions") or ():
                    return str(condition["message"])
    raise AssertionError


async def test_a_pod_that_makes_no_sense_does_not_keep_others_from_their_node(objects: Objects) -> None:
    await objects.create(PODS, a_pod("a", affinity=with_terms({"matchExpressions": [{"operator": "Exists"}]})))
    assert await decided(objects, a_pod("b")) == NODE


@pytest.mark.parametrize(
    ("term", "fits"),
    [
        ({"matchExpressions": [asking("disk", "In", "ssd", "nvme")]}, True),
        ({"matchExpressions": [asking("disk", "NotIn", "ssd")]}, False),
        ({"matchExpressions": [asking("size", "Gt", "6")]}, True),
        ({"matchExpressions": [asking("size", "Lt", "6")]}, False),
        ({"matchExpressions": [asking("size", "Gt", "six")]}, False),
        ({"matchFields": [asking("metadata.name", "In", NODE)]}, True),
        ({"matchFields": [asking("metadata.name", "In", "elsewhere")]}, False),
        ({}, False),
    ],
)
async def test_a_term_of_an_affinity_selects_nodes(objects: Objects, term: Object, fits: bool) -> None:
    told = await decided(objects, a_pod("a", affinity=with_terms(term)))
    assert (told == NODE) is fits, told
