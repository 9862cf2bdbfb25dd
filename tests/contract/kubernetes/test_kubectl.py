"""kubectl against the API server: the commands that people type. KUBECTL names the program, or it is on PATH."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.kubernetes.requests import Namespace
from tests.contract.kubernetes_rig import Cluster

KUBECTL = os.environ.get("KUBECTL") or shutil.which("kubectl")
WITHIN_S = 30.0

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not KUBECTL, reason="there is no kubectl on PATH, and KUBECTL names none"),
]

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {schedulerName: nobody, containers: [{name: main, image: "python:3.12", env: [{name: A, value: "1"}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress]}
"""

UNSCHEDULED = ("--image=python:3.12", '--overrides={"spec": {"schedulerName": "nobody"}}')

Kubectl = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture(loop_scope="session")
async def kubectl(namespace: Namespace, tmp_path: Path) -> Kubectl:
    """Runs it in the test's namespace; `code` is the exit code that is wanted. Gives its output and errors."""
    config = namespace.cluster.kubeconfig

    async def run(*arguments: str, code: int = 0, stdin: str = "") -> str:
        assert KUBECTL
        process = await asyncio.create_subprocess_exec(
            *(KUBECTL, "--kubeconfig", str(config), "--cache-dir", str(tmp_path), "-n", namespace.name, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(WITHIN_S):
            output, _ = await process.communicate(stdin.encode())
        assert process.returncode == code, output.decode()
        return output.decode()

    return run


async def test_apply_and_apply_again(kubectl: Kubectl) -> None:
    assert "pod/web created" in await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert "pod/web unchanged" in await kubectl("apply", "-f", "-", stdin=MANIFEST)
    changed = MANIFEST.replace("app: web", "app: shop")
    assert "pod/web configured" in await kubectl("apply", "-f", "-", stdin=changed)
    assert await kubectl("diff", "-f", "-", stdin=changed) == ""
    assert "app=shop" in await kubectl("get", "pods", "--show-labels")


async def test_apply_on_the_server_and_its_conflicts(kubectl: Kubectl) -> None:
    assert "pod/web serverside-applied" in await kubectl("apply", "--server-side", "-f", "-", stdin=MANIFEST)
    await kubectl("label", "pod", "web", "app=other", "--overwrite")
    conflict = await kubectl("apply", "--server-side", "-f", "-", stdin=MANIFEST, code=1)
    assert 'conflict with "kubectl-label" using v1: .metadata.labels.app' in conflict
    await kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=MANIFEST)


async def test_create_get_describe_patch_delete(kubectl: Kubectl) -> None:
    await kubectl("create", "configmap", "settings", "--from-literal=a=1")
    await kubectl("create", "secret", "generic", "hidden", "--from-literal=a=1")
    await kubectl("run", "web", *UNSCHEDULED)
    assert await kubectl("get", "configmap", "settings", "-o", "jsonpath={.data.a}") == "1"
    assert "Pending" in await kubectl("get", "pods")
    assert "Service Account:  default" in await kubectl("describe", "pod", "web")
    await kubectl("patch", "configmap", "settings", "-p", '{"data":{"a":"2"}}')
    await kubectl("annotate", "pod", "web", "a=b")
    await kubectl("wait", "--for=jsonpath={.status.phase}=Pending", "pod/web", "--timeout=5s")
    assert "deleted" in await kubectl("delete", "pod", "web", "--timeout=10s")
    assert "NotFound" in await kubectl("get", "pod", "web", code=1)


async def test_what_is_wrong_is_told(kubectl: Kubectl) -> None:
    wrong = MANIFEST.replace("image:", "picture:")
    assert 'unknown field "spec.containers[0].picture"' in await kubectl("create", "-f", "-", stdin=wrong, code=1)
    assert "is invalid" in await kubectl("run", "Bad_", "--image=x", code=1)


async def test_a_watch_prints_what_there_is(kubectl: Kubectl) -> None:
    await kubectl("run", "web", *UNSCHEDULED)
    lines = await kubectl("get", "pods", "--watch", "--request-timeout=1s")
    assert lines.splitlines()[1].split()[:3] == ["web", "0/1", "Pending"]


async def test_discovery_and_explanation(kubectl: Kubectl) -> None:
    assert "networkpolicies" in await kubectl("api-resources")
    assert "Server Version: v1." in await kubectl("version")
    assert "<[]EnvVar>" in await kubectl("explain", "pod.spec.containers.env")


async def test_who_am_i_and_what_may_i(kubectl: Kubectl, cluster: Cluster) -> None:
    assert (await kubectl("auth", "can-i", "create", "pods")).strip() == "yes"
    assert ("kubernetes-admin" if cluster.is_emulated else "Username") in await kubectl("auth", "whoami")
    await kubectl("create", "serviceaccount", "robot")
    assert (await kubectl("create", "token", "robot")).count(".") == 2
