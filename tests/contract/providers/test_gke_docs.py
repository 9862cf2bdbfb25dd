"""docs/gke.md tells the truth: its pool gives sessions, its rights are what the provider uses and no more."""

import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.errors import ProvisioningFailed
from shared.models import Resources
from shared.providers.gke_claims import POOLS
from shared.providers.gke_cluster import Cluster, Kind
from shared.tickets import Tickets, new_private_key
from tests.contract.gke_rig import GkeRig, gke
from tests.contract.kubernetes_rig import KUBECONFIG
from tests.fakes import Clock, a_session

BLOCKS = re.findall(r"```yaml\n(.*?)```", (Path(__file__).parents[3] / "docs" / "gke.md").read_text(), re.DOTALL)
RIGHTS, POOL = (list(yaml.safe_load_all(block)) for block in BLOCKS)
PLACES = {
    "Namespace": "api/v1/namespaces",
    "SandboxTemplate": "apis/extensions.agents.x-k8s.io/v1beta1/namespaces/{}/sandboxtemplates",
    "SandboxWarmPool": "apis/extensions.agents.x-k8s.io/v1beta1/namespaces/{}/sandboxwarmpools",
}
VERBS = {"create": "create", "replace": "update", "delete": "delete", "list": "list"}
AS_RBAC_SAYS = {
    "pod": "pods",
    "secret": "secrets",
    "namespace": "namespaces",
    "event": "events",
    "network_policy": "networkpolicies",
    "service_account": "serviceaccounts",
    "persistent_volume_claim": "persistentvolumeclaims",
}
pytestmark = pytest.mark.skipif(bool(KUBECONFIG), reason="the cluster is not the emulator's")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[GkeRig]:
    (tmp_path / "buckets" / "bucket-1").mkdir(parents=True)
    sockets = Path(tempfile.mkdtemp(prefix="om-"))
    settings = {"warm_pool": "onmemos-warm/{template}", "service_account": "buckets"}
    async with gke(tmp_path, sockets, **settings) as rig:
        yield rig
    shutil.rmtree(sockets, ignore_errors=True)


async def post(rig: GkeRig, manifest: dict[str, Any]) -> None:
    path = PLACES[manifest["kind"]].format(manifest["metadata"].get("namespace"))
    answer = await rig.http.post(f"/{path}", json=manifest)
    assert answer.status_code == 201, answer.text


async def test_the_pool_as_it_is_documented_gives_sessions(rig: GkeRig) -> None:
    keys = Tickets(new_private_key(), clock=Clock()).public_keys()
    for manifest in POOL:
        if manifest["kind"] == "SandboxTemplate":
            (container,) = manifest["spec"]["podTemplate"]["spec"]["containers"]
            container["image"] = a_session().image
            next(one for one in container["env"] if one["name"] == "ONMEMOS_TICKET_KEYS")["value"] = keys
        await post(rig, manifest)
    await rig.until_one(POOLS, "onmemos-warm", "python", lambda pool: pool.get("status", {}).get("readyReplicas") == 3)
    workspace = await rig.provider.create(rig.session(), {}, "bucket-1")
    assert workspace.adopt is not None
    assert workspace.adopt.startswith("python-")


async def test_the_rights_are_those_that_are_used(rig: GkeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[tuple[str, str]] = set()
    function = Cluster._function

    async def noted(self: Cluster, kind: Kind, verb: str) -> tuple[Callable[..., Any], dict[str, Any]]:
        plural = kind.of.get("plural") or AS_RBAC_SAYS[kind.method]
        used.add((plural, VERBS[verb.removesuffix("_namespaced")]))
        return await function(self, kind, verb)

    monkeypatch.setattr(Cluster, "_function", noted)
    for manifest in POOL:
        await post(rig, manifest)
    sessions = [rig.session(), rig.session(id="ws-own-me-1761998400", long_lived=True)]
    for session in (*sessions, *sessions):
        await rig.provider.create(session, {}, "bucket-1")
    too_large = rig.session(id="ws-own-me-1761998401", resources=Resources(30, 110 << 30))
    with pytest.raises(ProvisioningFailed):
        await rig.provider.create(too_large, {}, "bucket-1")
    for session in (*sessions, too_large):
        await rig.provider.stop(session.id)
        await rig.provider.delete(session.id)
        await rig.provider.inspect(session.id)
    assert [found async for found in rig.provider.session_ids()] == []
    granted = {
        (resource, verb) for rule in RIGHTS[0]["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    }
    assert used <= granted
    # An account is waited for only where it is late; watching is a list that goes on, and clients expect to get.
    unused = {(resource, verb) for resource, verb in granted - used if verb not in ("get", "watch")}
    assert {resource for resource, _ in unused - {("serviceaccounts", "list")}} == {"pods/proxy"}
