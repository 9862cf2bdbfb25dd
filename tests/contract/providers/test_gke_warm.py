"""Sessions from a warm pool of Agent Sandbox: who gets a Pod that is up, who a Pod of its own, and what is left."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ProvisioningFailed
from shared.models import Resources, Storage
from shared.providers.base import Health
from shared.providers.gke_claims import CLAIMS, POOLS
from shared.providers.gke_cluster import PODS
from tests.contract.gke_rig import EXTENSIONS, POOL, POOL_NAMESPACE, GkeRig, gke

BUCKET = "bucket-1"
PLACE = f"/apis/{EXTENSIONS}/namespaces/{POOL_NAMESPACE}"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[GkeRig]:
    (tmp_path / "buckets" / BUCKET).mkdir(parents=True)
    sockets = Path(tempfile.mkdtemp(prefix="om-"))
    async with gke(tmp_path, sockets, warm_pool=f"{POOL_NAMESPACE}/{POOL.replace('python', '{template}')}") as rig:
        yield rig
    shutil.rmtree(sockets, ignore_errors=True)


async def warm_pods(rig: GkeRig) -> set[str]:
    found = await rig.api.labelled(PODS, "agents.x-k8s.io/warm-pool-sandbox", POOL_NAMESPACE)
    return {obj["metadata"]["name"] for obj in found}


async def until_filled(rig: GkeRig) -> None:
    async with asyncio.timeout(10), aclosing(rig.api.states(POOLS, POOL_NAMESPACE, POOL)) as states:
        async for pool in states:
            if pool is not None and pool.get("status", {}).get("readyReplicas"):
                return


async def test_a_session_that_fits_gets_a_pod_that_was_up_and_is_to_be_adopted(rig: GkeRig) -> None:
    (waiting,) = await warm_pods(rig)
    session = rig.session()
    workspace = await rig.provider.create(session, {"A": "1"}, BUCKET)
    assert (workspace.adopt, workspace.details["pod"], workspace.details["namespace"]) == (waiting, waiting, "warm")
    assert workspace.url.endswith(f"/namespaces/warm/pods/{waiting}:8080/proxy")
    assert workspace.details["bucket_mounted"] == "false"
    assert rig.runtime is not None
    (container,) = [one for one in rig.runtime.running() if one.spec.env.get("WORKSPACE_ID") == waiting]
    assert "A" not in container.spec.env  # adoption brings it
    assert (await rig.provider.inspect(session.id)).health is Health.READY


async def test_a_claimed_pod_is_never_given_twice_and_the_pool_fills_again(rig: GkeRig) -> None:
    first, second = rig.session(), rig.session(id="ws-test-developer-1761998401")
    one = await rig.provider.create(first, {}, BUCKET)
    other = await rig.provider.create(second, {}, BUCKET)
    assert one.adopt != other.adopt
    await until_filled(rig)
    assert not {one.adopt, other.adopt} & await warm_pods(rig)
    assert [found async for found in rig.provider.session_ids()] == [first.id, second.id]


@pytest.mark.parametrize(
    "wish",
    [
        {"egress": False},
        {"resources": Resources(0.5, 1 << 30)},
        {"long_lived": True},
        {"storage": Storage(BUCKET)},
        {"template": "node"},
        {"image": "onmemos/workspace-other:local"},
    ],
    ids=lambda wish: next(iter(wish)),
)
async def test_what_the_pool_cannot_give_gets_a_pod_of_its_own(rig: GkeRig, wish: dict[str, Any]) -> None:
    session = rig.session(**wish)
    workspace = await rig.provider.create(session, {"A": "1"}, BUCKET)
    assert workspace.adopt is None
    assert workspace.details["pod"] == session.id
    assert await rig.api.find(CLAIMS, POOL_NAMESPACE, session.id) is None
    await rig.provider.delete(session.id)
    assert rig.is_empty()


async def test_what_a_former_try_began_is_gone_on_with_though_the_pool_came_or_went(rig: GkeRig) -> None:
    claimed, own = rig.session(), rig.session(id="ws-test-developer-1761998401")
    first = await rig.provider.create(claimed, {}, BUCKET)
    async with rig.another(replace(rig.settings, warm_pool="")) as without:
        second = await without.create(own, {}, BUCKET)
    assert await rig.provider.create(own, {}, BUCKET) == second
    (await rig.http.delete(f"{PLACE}/sandboxwarmpools/{POOL}")).raise_for_status()
    assert await rig.provider.create(claimed, {}, BUCKET) == first


async def test_without_its_pool_or_without_agent_sandbox_a_session_gets_a_pod_of_its_own(rig: GkeRig) -> None:
    for pool in (f"{POOL_NAMESPACE}/none", "nowhere/none"):
        async with rig.another(replace(rig.settings, warm_pool=pool)) as provider:
            session = rig.session(id=f"ws-{pool.replace('/', '-')}-1761998400")
            assert (await provider.create(session, {}, BUCKET)).adopt is None
            await provider.delete(session.id)
    assert rig.is_empty()


async def test_stopping_gives_the_pod_back_and_creating_again_takes_another(rig: GkeRig) -> None:
    session = rig.session()
    first = await rig.provider.create(session, {}, BUCKET)
    await rig.provider.stop(session.id)
    assert (await rig.provider.inspect(session.id)).health is Health.GONE
    assert first.adopt is not None
    assert await rig.api.find(PODS, POOL_NAMESPACE, first.adopt) is None
    second = await rig.provider.create(session, {}, BUCKET)
    assert second.adopt not in {None, first.adopt}
    await rig.provider.delete(session.id)
    assert rig.is_empty()


async def test_an_empty_pool_makes_a_pod_that_fails_in_kubernetes_words(rig: GkeRig) -> None:
    change = {"Content-Type": "application/merge-patch+json"}
    pool = f"{PLACE}/sandboxwarmpools/{POOL}"
    (await rig.http.patch(pool, json={"spec": {"replicas": 0}}, headers=change)).raise_for_status()
    async with asyncio.timeout(10), aclosing(rig.api.states(POOLS, POOL_NAMESPACE, POOL)) as states:
        async for state in states:
            if state is not None and not state["status"].get("replicas"):
                break
    session = rig.session()
    assert rig.runtime is not None
    rig.runtime.refuse = 1000
    with pytest.raises(ProvisioningFailed, match="no sandbox today"):
        await rig.provider.create(session, {}, BUCKET)
    await rig.provider.delete(session.id)
    assert rig.is_empty()
