"""One API server for all tests of this folder, without a node: Pods stay pending. Every test has its own namespace."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.contract.kubernetes.node_rig import Node, node, until_service_account
from tests.contract.kubernetes.requests import Namespace, told
from tests.contract.kubernetes_rig import Cluster, cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session", name="cluster")
async def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(cluster: Cluster) -> Namespace:
    """With its default service account, which a controller makes in a whole cluster."""
    made = Namespace(cluster, f"test-{uuid4().hex[:8]}")
    await made.begin()
    return made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Cluster, Path]]:
    """One whose Pods run, and the folder of its state."""
    folder = tmp_path_factory.mktemp("node")
    async with node(folder) as running:
        yield running, folder


@pytest_asyncio.fixture(loop_scope="session", name="node")
async def pods_of_a_test(whole_cluster: tuple[Cluster, Path]) -> Node:
    """A namespace of its own in that cluster."""
    running, folder = whole_cluster
    namespace = Namespace(running, f"test-{uuid4().hex[:8]}")
    told(await running.http.post("/api/v1/namespaces", json={"metadata": {"name": namespace.name}}), 201)
    await until_service_account(namespace)
    return Node(running, folder, namespace)
