"""These tests on a cluster that a kubeconfig names (`make test-gke`): here the emulator's, in which nothing remains."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.contract.kubernetes.requests import Namespace, told
from tests.contract.kubernetes_rig import NO_NODE, Cluster, emulated

HERE = Path(__file__).parent
SOME = (
    "test_api_admission.py::test_a_quota_is_a_limit_and_tells_what_is_used",
    "test_api_custom.py::test_a_custom_object_is_filled_in_pruned_and_kept",
    "test_api_discovery.py::test_a_token_of_a_service_account_lets_in",
    "test_api_objects.py::test_a_namespace_that_is_being_deleted_takes_nothing_new",
    "test_api_refusals.py::test_a_token_that_is_none_lets_nobody_in",
    "test_api_watch.py::test_a_watch_goes_on_where_the_list_was",
    "test_api_watch.py::test_a_restart_keeps_objects_and_counts_on",
    "test_pods.py::test_a_deadline_ends_a_pod",
)
SKIPPED = 2
WITHIN_S = 60.0

pytestmark = [pytest.mark.asyncio(loop_scope="session"), emulated("a cluster is given to a process of its own")]


async def things(cluster: Cluster) -> set[str]:
    """What belongs to no namespace, and the namespaces."""
    kinds = ("api/v1/namespaces", "apis/apiextensions.k8s.io/v1/customresourcedefinitions")
    listed = [told(await cluster.http.get(f"/{kind}"))["items"] for kind in kinds]
    return {obj["metadata"]["name"] for items in listed for obj in items}


async def test_a_kubeconfig_is_all_that_is_needed(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> None:
    before = await things(cluster)
    assert namespace.name in before
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"ONMEMOS_TEST_KUBECONFIG": str(cluster.kubeconfig), "ONMEMOS_TEST_IMAGE": ""}
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "pytest",
            "-rs",
            "--basetemp",
            str(tmp_path / "given"),
            *(f"{HERE}/{one}" for one in SOME),
        ),
        cwd=HERE.parents[2],
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said
    assert f"{len(SOME) - SKIPPED} passed, {SKIPPED} skipped" in said
    assert NO_NODE in said
    assert await things(cluster) == before
