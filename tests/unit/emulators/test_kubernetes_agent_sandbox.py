"""Agent Sandbox's controllers over the objects alone; what a node does is written by the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from infra.emulators.kubernetes import kinds
from infra.emulators.kubernetes.agent_sandbox import AgentSandbox
from infra.emulators.kubernetes.agent_sandbox_blueprints import name_hash, owns
from infra.emulators.kubernetes.agent_sandbox_definitions import DEFINITIONS, EXTENSIONS, GROUP, VERSION
from infra.emulators.kubernetes.kinds import NETWORK_POLICIES, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES, Kind
from infra.emulators.kubernetes.objects import Object, Objects

TEMPLATE = {
    "podTemplate": {
        "metadata": {"labels": {"app": "agent", f"{GROUP}/claim-uid": "forged"}},
        "spec": {"containers": [{"name": "agent", "image": "i", "ports": [{"containerPort": 8080}]}]},
    }
}


class Rig:
    """The controllers at work, and what a client of the API would do."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def kind(self, plural: str) -> Kind:
        found = self.objects.kinds.find(GROUP if plural == "sandboxes" else EXTENSIONS, VERSION, plural)
        assert found is not None
        return found

    async def make(self, plural: str, name: str, **spec: Any) -> Object:
        return await self.objects.create(
            self.kind(plural), {"metadata": {"name": name, "namespace": "n"}, "spec": spec}
        )

    async def pool(self, replicas: int) -> None:
        await self.make("sandboxtemplates", "t", **TEMPLATE)
        await self.make("sandboxwarmpools", "p", replicas=replicas, sandboxTemplateRef={"name": "t"})

    async def claim(self, name: str, **spec: Any) -> Object:
        return await self.make("sandboxclaims", name, warmPoolRef={"name": "p"}, **spec)

    def all(self, kind: Kind) -> list[Object]:
        return self.objects.list(kind)[0]

    async def until(self, holds: Callable[[], Any]) -> Any:
        """What `holds` returns once that is true."""
        watch = self.objects.open_watch(None)
        async with asyncio.timeout(5):
            while not (found := holds()):
                await watch.next()
        return found

    async def run(self, pod: Object) -> None:
        """What a node would write of a Pod that is up."""
        pod["status"] = {
            "phase": "Running",
            "podIPs": [{"ip": "10.1.0.7"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        }
        await self.objects.update(PODS, {**pod, "metadata": _bare(pod)}, status=True)

    def claimed(self, name: str) -> tuple[str, str]:
        """(sandbox, status of Ready) of a claim."""
        status = self.objects.get(self.kind("sandboxclaims"), "n", name).get("status", {})
        return status.get("sandbox", {}).get("name", ""), _ready(status).get("status", "")

    def reason(self, name: str) -> str:
        status = self.objects.get(self.kind("sandboxclaims"), "n", name).get("status", {})
        return str(_ready(status).get("reason", ""))


def _ready(status: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next((one for one in status.get("conditions", []) if one["type"] == "Ready"), {})
    return found


def _bare(obj: Object) -> dict[str, Any]:
    return {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    objects = Objects(tmp_path / "objects")
    for definition in DEFINITIONS:
        await objects.create(kinds.CUSTOM_RESOURCE_DEFINITIONS, definition)
    async with AgentSandbox(objects):
        yield Rig(objects)
    objects.close()


async def test_a_sandbox_gets_a_pod_of_its_name_and_is_ready_when_that_is(rig: Rig) -> None:
    sandbox = await rig.make("sandboxes", "s", **TEMPLATE)
    (pod,) = await rig.until(lambda: rig.all(PODS))
    assert pod["metadata"]["name"] == "s"
    assert owns(sandbox, pod)
    assert pod["metadata"]["labels"] == {"app": "agent", f"{GROUP}/sandbox-name-hash": name_hash("s")}

    def status() -> dict[str, Any]:
        found: dict[str, Any] = rig.objects.get(rig.kind("sandboxes"), "n", "s").get("status", {})
        return found

    assert (await rig.until(lambda: _ready(status())))["reason"] == "DependenciesNotReady"
    await rig.run(pod)
    await rig.until(lambda: _ready(status())["status"] == "True")
    assert status()["podIPs"] == ["10.1.0.7"]


async def test_a_suspended_sandbox_has_no_pod_and_resumes_with_a_new_one(rig: Rig) -> None:
    sandbox = await rig.make("sandboxes", "s", **TEMPLATE)
    (first,) = await rig.until(lambda: rig.all(PODS))
    spec = {**sandbox["spec"], "operatingMode": "Suspended"}
    await rig.objects.update(rig.kind("sandboxes"), {**sandbox, "metadata": _bare(sandbox), "spec": spec})
    await rig.until(lambda: not rig.all(PODS))
    spec = {**sandbox["spec"], "operatingMode": "Running"}
    await rig.objects.update(rig.kind("sandboxes"), {**sandbox, "metadata": _bare(sandbox), "spec": spec})
    (second,) = await rig.until(lambda: rig.all(PODS))
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


async def test_a_sandbox_brings_its_disks_and_its_service(rig: Rig) -> None:
    disk = {"metadata": {"name": "work"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    await rig.make("sandboxes", "s", **TEMPLATE, volumeClaimTemplates=[disk], service=True)
    (pod,) = await rig.until(lambda: rig.all(PODS))
    (claim,) = rig.all(PERSISTENT_VOLUME_CLAIMS)
    assert claim["metadata"]["name"] == "work-s"
    assert pod["spec"]["volumes"] == [{"name": "work", "persistentVolumeClaim": {"claimName": "work-s"}}]
    (service,) = await rig.until(lambda: rig.all(SERVICES))
    assert service["spec"]["ports"] == [{"name": "p8080", "port": 8080}]


async def test_a_pool_is_filled_and_shrinks(rig: Rig) -> None:
    await rig.pool(3)
    await rig.until(lambda: len(rig.all(PODS)) == 3)
    pool = rig.objects.get(rig.kind("sandboxwarmpools"), "n", "p")
    await rig.objects.update(
        rig.kind("sandboxwarmpools"), {**pool, "metadata": _bare(pool), "spec": {**pool["spec"], "replicas": 1}}
    )
    await rig.until(lambda: len(rig.all(rig.kind("sandboxes"))) == 1)


async def test_a_claim_takes_the_warm_sandbox_that_is_ready_and_the_pool_is_filled_again(rig: Rig) -> None:
    await rig.pool(2)
    pods = await rig.until(lambda: len(rig.all(PODS)) == 2 and rig.all(PODS))
    ready = pods[1]["metadata"]["name"]
    await rig.run(pods[1])
    pool = rig.kind("sandboxwarmpools")
    await rig.until(lambda: rig.objects.get(pool, "n", "p").get("status", {}).get("readyReplicas") == 1)
    claim = await rig.claim("c")
    await rig.until(lambda: rig.claimed("c") == (ready, "True"))
    sandbox = rig.objects.get(rig.kind("sandboxes"), "n", ready)
    assert owns(claim, sandbox)
    uid = claim["metadata"]["uid"]
    await rig.until(lambda: rig.objects.get(PODS, "n", ready)["metadata"]["labels"].get(f"{GROUP}/claim-uid") == uid)
    assert f"{GROUP}/warm-pool-sandbox" not in rig.objects.get(PODS, "n", ready)["metadata"]["labels"]
    await rig.until(lambda: len(rig.all(PODS)) == 3)


async def test_two_claims_never_share_a_sandbox(rig: Rig) -> None:
    await rig.pool(1)
    await asyncio.gather(*(rig.claim(f"c{number}") for number in range(4)))
    names = [f"c{number}" for number in range(4)]
    await rig.until(lambda: all(rig.claimed(name)[0] for name in names))
    assert len({rig.claimed(name)[0] for name in names}) == 4


async def test_a_claim_on_an_empty_pool_gets_a_new_sandbox_of_its_own_name(rig: Rig) -> None:
    await rig.pool(0)
    await rig.claim("c")
    await rig.until(lambda: rig.claimed("c") == ("c", "False"))


async def test_a_claim_with_env_is_never_warm_and_only_where_the_template_allows_it(rig: Rig) -> None:
    await rig.pool(1)
    await rig.until(lambda: rig.all(PODS))
    await rig.claim("c", env=[{"name": "A", "value": "1"}])
    await rig.until(lambda: rig.reason("c") == "EnvVarsInjectionRejected")


async def test_a_claim_waits_for_its_pool_and_says_what_is_missing(rig: Rig) -> None:
    await rig.claim("c")
    await rig.until(lambda: rig.reason("c") == "WarmPoolNotFound")
    await rig.make("sandboxwarmpools", "p", replicas=0, sandboxTemplateRef={"name": "t"})
    await rig.until(lambda: rig.reason("c") == "TemplateNotFound")
    await rig.make("sandboxtemplates", "t", **TEMPLATE)
    await rig.until(lambda: rig.claimed("c")[0] == "c")


async def test_a_template_has_a_network_policy_for_all_its_sandboxes(rig: Rig) -> None:
    template = await rig.make("sandboxtemplates", "t", **TEMPLATE)
    (policy,) = await rig.until(lambda: rig.all(NETWORK_POLICIES))
    assert policy["metadata"]["name"] == "t-network-policy"
    assert owns(template, policy)
    assert policy["spec"]["ingress"][0]["from"][0]["podSelector"] == {"matchLabels": {"app": "sandbox-router"}}
    spec = {**template["spec"], "networkPolicyManagement": "Unmanaged"}
    await rig.objects.update(rig.kind("sandboxtemplates"), {**template, "metadata": _bare(template), "spec": spec})
    await rig.until(lambda: not rig.all(NETWORK_POLICIES))


async def test_what_another_kind_of_the_group_owns_is_no_concern_of_the_controllers(rig: Rig) -> None:
    stranger = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Stranger", "name": "s", "uid": "u", "controller": True}
    metadata = {"name": "other", "namespace": "n", "ownerReferences": [stranger]}
    await rig.objects.create(PODS, {"metadata": metadata, "spec": {"containers": []}})
    await rig.make("sandboxes", "a", **TEMPLATE)
    await rig.until(lambda: len(rig.all(PODS)) == 2)
