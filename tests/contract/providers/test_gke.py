"""What only the GKE provider does: the objects it makes, what survives, what is refused, in Kubernetes' own words."""

import asyncio
import base64
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from shared.errors import ProviderUnavailable, ProvisioningFailed, QuotaExceeded
from shared.models import Filestore, Resources, Session, Storage
from shared.providers.base import Health
from shared.providers.gke import Gke, GkeSettings
from shared.providers.gke_cluster import NETWORK_POLICIES, PODS, SECRETS, VOLUME_CLAIMS
from shared.providers.gke_credentials import Kubeconfig
from shared.providers.gke_manifests import namespace_name
from tests.contract.cloud_run_rig import SocketRuntime
from tests.contract.gke_rig import GkeRig, gke
from tests.contract.kubernetes_rig import KUBECONFIG

BUCKET = "bucket-1"
ABSENT = "docker.io/onmemos/none:missing"
emulated = pytest.mark.skipif(bool(KUBECONFIG), reason="the cluster is not the emulator's")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[GkeRig]:
    (tmp_path / "buckets" / BUCKET).mkdir(parents=True)
    sockets = Path(tempfile.mkdtemp(prefix="om-"))
    async with gke(tmp_path, sockets) as rig:
        yield rig
    shutil.rmtree(sockets, ignore_errors=True)


def machine(rig: GkeRig) -> SocketRuntime:
    assert rig.runtime is not None
    return rig.runtime


async def secret(rig: GkeRig, session: Session) -> dict[str, str]:
    found = await rig.find(SECRETS, session)
    assert found is not None
    return {name: base64.b64decode(value).decode() for name, value in found["data"].items()}


async def test_a_namespace_is_made_that_is_restricted_and_closed(rig: GkeRig) -> None:
    session = rig.session()
    pod = await rig.made(session)
    assert pod["metadata"]["namespace"] == namespace_name(session)
    namespace = (await rig.http.get(f"/api/v1/namespaces/{namespace_name(session)}")).json()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    policy = await rig.find(NETWORK_POLICIES, session, "default-deny")
    assert policy is not None
    assert (policy["spec"]["podSelector"], policy["spec"].get("ingress")) == ({}, None)


async def test_the_pod_is_as_it_was_asked_for(rig: GkeRig) -> None:
    session = rig.session(resources=Resources(0.5, 1 << 30), labels={"team": "x"})
    pod = await rig.made(session, {"TOKEN": "s3cret"})
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert (container["resources"]["limits"]["cpu"], container["resources"]["limits"]["memory"]) == ("500m", "1Gi")
    assert pod["metadata"]["labels"]["labels.onmemos.dev/team"] == "x"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "s3cret" not in str(pod)
    assert await secret(rig, session) == {"TOKEN": "s3cret"}


async def test_what_a_crashed_try_left_is_found_and_removed_at_any_line(rig: GkeRig) -> None:
    session = rig.session(long_lived=True)
    await rig.made(session, {"A": "1"})
    for plural in (
        "pods",
        "secrets",
        "persistentvolumeclaims",
    ):  # what is left gets less, as if the try had got less far
        assert session.id in [found async for found in rig.provider.session_ids()]
        one = f"/api/v1/namespaces/{namespace_name(session)}/{plural}/{session.id}"
        (await rig.http.delete(one, params={"gracePeriodSeconds": 0})).raise_for_status()
        await rig.http.patch(
            one,
            content='{"metadata": {"finalizers": null}}',
            headers={"Content-Type": "application/merge-patch+json"},
        )
    await rig.provider.delete(session.id)
    assert rig.is_empty()


async def test_a_second_try_gives_the_environment_of_now(rig: GkeRig) -> None:
    session = rig.session()
    await rig.made(session, {"A": "1"})
    (await rig.http.delete(f"/api/v1/namespaces/{namespace_name(session)}/pods/{session.id}")).raise_for_status()
    await rig.made(session, {"A": "2", "B": "3"})
    assert await secret(rig, session) == {"A": "2", "B": "3"}


async def test_a_foreign_object_with_our_label_is_never_listed(rig: GkeRig) -> None:
    session = rig.session()
    await rig.made(session)
    impostor = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "impostor", "labels": {"onmemos.dev/session": "ws-of-another-name"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    path = f"/api/v1/namespaces/{namespace_name(session)}/persistentvolumeclaims"
    (await rig.http.post(path, json=impostor)).raise_for_status()
    assert "ws-of-another-name" not in [found async for found in rig.provider.session_ids()]


async def test_a_full_quota_is_told_as_such(rig: GkeRig) -> None:
    first, second = rig.session(), rig.session(id="ws-test-developer-1761998401")
    await rig.made(first)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "one"},
        "spec": {"hard": {"pods": "0"}},
        "status": {"hard": {"pods": "0"}, "used": {"pods": "0"}},
    }
    path = f"/api/v1/namespaces/{namespace_name(first)}/resourcequotas"
    (await rig.http.post(path, json=quota)).raise_for_status()
    await rig.http.patch(
        f"{path}/one/status", json={"status": quota["status"]}, headers={"Content-Type": "application/merge-patch+json"}
    )
    with pytest.raises(QuotaExceeded, match="exceeded quota: one"):
        await rig.made(second)


async def test_a_runtime_class_that_is_not_there_is_refused_in_the_servers_words(rig: GkeRig) -> None:
    async with rig.another(replace(rig.settings, runtime_class="kata-none")) as provider:
        with pytest.raises(ProvisioningFailed, match="kata-none"):
            await provider.create(rig.session(), {}, BUCKET)


async def test_a_mount_that_is_illegal_is_refused_in_the_servers_words(rig: GkeRig) -> None:
    session = rig.session(storage=Storage(filestore=Filestore("10.0.0.2", "vol1", "/mnt/a:b")))
    async with rig.another(rig.settings) as provider:
        with pytest.raises(ProvisioningFailed, match="mountPath"):
            await provider.create(session, {}, BUCKET)


@pytest.mark.parametrize("server", ["http://127.0.0.1:9", ""], ids=["nobody listens", "nobody knows us"])
async def test_a_cluster_that_does_not_let_us_in_is_unavailable(rig: GkeRig, tmp_path: Path, server: str) -> None:
    path = tmp_path / "away"
    path.write_text(
        f"""
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{token: of-nobody}}}}]
clusters: [{{name: c, cluster: {{server: "{server or rig.http.base_url}", insecure-skip-tls-verify: true}}}}]
"""
    )
    provider = Gke(rig.settings, Kubeconfig(path))
    for call in (
        provider.create(rig.session(), {}, BUCKET),
        provider.inspect("ws-none-me-1756062811"),
        provider.stop("ws-none-me-1756062811"),
        provider.delete("ws-none-me-1756062811"),
        anext(provider.session_ids()),
    ):
        with pytest.raises(ProviderUnavailable):
            await call
    await provider.close()


async def test_an_image_that_is_not_there_fails_with_the_registrys_words(rig: GkeRig) -> None:
    rig.needs_nodes()
    async with rig.another(rig.settings) as provider:
        with pytest.raises(ProvisioningFailed, match=r"ErrImagePull|ImagePullBackOff"):
            await provider.create(rig.session(image=ABSENT), {}, BUCKET)
        assert (await provider.inspect(rig.session().id)).health is not Health.READY


async def test_what_no_node_has_room_for_fails_with_the_schedulers_words(rig: GkeRig) -> None:
    rig.needs_nodes()
    session = rig.session(resources=Resources(30, 110 << 30))
    async with rig.another(rig.settings) as provider:
        with pytest.raises(ProvisioningFailed, match=r"Unschedulable.*Insufficient"):
            await provider.create(session, {}, BUCKET)


async def test_the_disk_of_a_long_lived_session_survives_its_stop_and_its_secret_does_not(rig: GkeRig) -> None:
    session = rig.session(long_lived=True)
    await rig.created(session, {"A": "1"})
    disk = await rig.find(VOLUME_CLAIMS, session)
    await rig.provider.stop(session.id)
    assert [await rig.find(kind, session) for kind in (PODS, SECRETS, NETWORK_POLICIES)] == [None] * 3
    assert (await rig.provider.inspect(session.id)).health is Health.STOPPED
    assert session.id in [found async for found in rig.provider.session_ids()]
    await rig.created(session, {"A": "2"})
    again = await rig.find(VOLUME_CLAIMS, session)
    assert disk is not None
    assert again is not None
    assert disk["metadata"]["uid"] == again["metadata"]["uid"]
    assert (await secret(rig, session))["A"] == "2"
    await rig.provider.delete(session.id)
    assert rig.is_empty()


async def test_a_pod_that_was_evicted_is_gone_and_makes_room_for_another(rig: GkeRig) -> None:
    session = rig.session()
    await rig.created(session)
    first = await rig.find(PODS, session)
    assert first is not None
    path = f"/api/v1/namespaces/{namespace_name(session)}/pods/{session.id}/status"
    failed = {"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}}
    merge = {"Content-Type": "application/merge-patch+json"}
    (await rig.http.patch(path, json=failed, headers=merge)).raise_for_status()
    condition = await rig.provider.inspect(session.id)
    assert (condition.health, "Evicted" in condition.reason) == (Health.GONE, True)
    await rig.created(session)
    second = await rig.find(PODS, session)
    assert second is not None
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


@emulated
async def test_the_sandbox_gets_what_the_session_asked_for(rig: GkeRig) -> None:
    session = rig.session(resources=Resources(1.0, 1 << 30), egress=False)
    workspace = await rig.provider.create(session, {"A": "1"}, BUCKET)
    (container,) = machine(rig).running()
    assert container.spec.env["A"] == "1"
    assert container.spec.env["PORT"] == "8080"
    assert container.spec.limits.memory_bytes == 1 << 30
    assert not container.spec.egress
    assert [mount.target for mount in container.spec.mounts] == ["/workspace"]
    assert workspace.details["bucket_mounted"] == "false"


@emulated
async def test_buckets_and_shares_are_mounted_where_they_were_asked_for(rig: GkeRig) -> None:
    session = rig.session(storage=Storage(BUCKET, "/in/put", filestore=Filestore("10.0.0.2", "vol1/team", "/mnt/team")))
    workspace = await rig.provider.create(session, {}, BUCKET)
    (container,) = machine(rig).running()
    assert {mount.target for mount in container.spec.mounts} == {"/workspace", "/in/put", "/mnt/team"}
    assert container.spec.egress
    assert workspace.details["bucket_mounted"] == "true"


@emulated
async def test_a_bucket_that_does_not_exist_fails_the_workspace_at_once(rig: GkeRig) -> None:
    with pytest.raises(ProvisioningFailed, match=r"FailedMount.*bucket doesn't exist"):
        await rig.provider.create(rig.session(), {}, "onmemos-none-me-1756062811")


@emulated
async def test_a_pod_that_cannot_be_started_fails_with_its_reason(rig: GkeRig) -> None:
    machine(rig).refuse = 1000
    with pytest.raises(ProvisioningFailed, match="no sandbox today"):
        await rig.provider.create(rig.session(), {}, BUCKET)
    assert (await rig.provider.inspect(rig.session().id)).health is not Health.READY
    with pytest.raises(ProvisioningFailed):
        await rig.provider.create(rig.session(), {}, BUCKET)


@emulated
async def test_a_pod_that_is_still_ending_is_waited_for(rig: GkeRig) -> None:
    session = rig.session()
    await rig.provider.create(session, {"A": "1"}, BUCKET)
    (container,) = machine(rig).running()
    may_end, stop = asyncio.Event(), container.stop

    async def stop_late(grace_s: float = 5) -> None:
        await may_end.wait()
        await stop(grace_s)

    container.stop = stop_late  # type: ignore[method-assign]
    (await rig.http.delete(f"/api/v1/namespaces/{namespace_name(session)}/pods/{session.id}")).raise_for_status()
    assert (await rig.provider.inspect(session.id)).health is Health.GONE
    creating = asyncio.create_task(rig.provider.create(session, {"A": "2"}, BUCKET))
    done, _ = await asyncio.wait([creating], timeout=0.3)
    assert not done
    may_end.set()
    await creating
    assert machine(rig).running()[0].spec.env["A"] == "2"


async def test_agents_are_reached_through_the_api_server(rig: GkeRig) -> None:
    session = rig.session()
    workspace = await rig.created(session)
    address = await rig.provider.address(replace(session, url=workspace.url))
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{address.url}/health", headers=address.headers, ssl=address.ssl or True) as answer,
    ):
        assert answer.status == 200


@emulated
async def test_agents_are_reached_by_their_pods_where_the_network_allows_it(rig: GkeRig) -> None:
    async with rig.another(replace(rig.settings, pod_network=True)) as provider:
        session = rig.session()
        workspace = await provider.create(session, {}, BUCKET)
        pod = await rig.find(PODS, session)
        assert pod is not None
        assert workspace.url == f"http://{pod['status']['podIP']}:8080"
        address = await provider.address(replace(session, url=workspace.url))
        assert (address.url, address.headers) == (workspace.url, {})


async def test_settings_name_the_account_that_reaches_buckets(rig: GkeRig) -> None:
    settings = GkeSettings(buckets=True, service_account="bucket-user")
    session = rig.session()
    async with rig.another(settings) as provider:
        creating = asyncio.create_task(provider.create(session, {}, BUCKET))
        pod = await rig.until(session, lambda pod: True, creating)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
    assert pod["spec"]["serviceAccountName"] == "bucket-user"


async def test_namespaces_of_a_tenant_are_apart(rig: GkeRig) -> None:
    session = rig.session()
    other = rig.session(namespace="other", id="ws-other-developer-1761998400")
    first, second = await rig.made(session), await rig.made(other)
    assert first["metadata"]["namespace"] != second["metadata"]["namespace"]
