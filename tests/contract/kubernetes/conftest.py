"""One API server for all tests of this folder, without a node: Pods stay pending. Every test has its own namespace.

With ONMEMOS_TEST_KUBECONFIG that cluster's, for the tests of Pods that run, too.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.kubernetes.namespaces import Namespaces
from tests.contract.kubernetes.node_rig import Node, node
from tests.contract.kubernetes.requests import Namespace
from tests.contract.kubernetes_rig import IMAGE, KUBECONFIG, NO_IMAGE, NO_NODE, Cluster, cluster, named


@pytest_asyncio.fixture(scope="session", loop_scope="session", name="cluster")
async def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    opened = named(Path(KUBECONFIG)) if KUBECONFIG else cluster(tmp_path_factory.mktemp("kubernetes"))
    async with opened as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def namespaces(cluster: Cluster) -> AsyncIterator[Namespaces]:
    async with Namespaces(cluster) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(namespaces: Namespaces) -> Namespace:
    return await namespaces.new()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Cluster, Path]]:
    """One whose Pods run, and the folder of its state."""
    folder = tmp_path_factory.mktemp("node")
    async with _theirs() if KUBECONFIG else node(folder) as running:
        yield running, folder


@pytest_asyncio.fixture(loop_scope="session", name="node")
async def pods_of_a_test(whole_cluster: tuple[Cluster, Path]) -> AsyncIterator[Node]:
    """A namespace of its own in that cluster."""
    running, folder = whole_cluster
    async with Namespaces(running) as made:
        yield Node(running, folder, await made.new())


@asynccontextmanager
async def _theirs() -> AsyncIterator[Cluster]:
    async with named(Path(KUBECONFIG)) as running:
        if not await running.ready_nodes():
            pytest.skip(NO_NODE)
        if not IMAGE:
            pytest.skip(NO_IMAGE)
        yield running
