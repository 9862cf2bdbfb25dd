"""What the GKE provider makes in a cluster: legal by the client's own models, and no more than was asked for."""

import re
from typing import Any

import pytest
from kubernetes.aio.client import V1Namespace, V1NetworkPolicy, V1PersistentVolumeClaim, V1Pod, V1Secret

from shared.errors import InvalidRequest
from shared.models import Filestore, Resources, Session, Storage
from shared.providers import gke_manifests as manifests
from shared.providers.base import Wanted
from shared.providers.gke import Gke, GkeSettings
from shared.providers.gke_claims import amount
from shared.providers.gke_credentials import Server
from tests.fakes import a_session

SETTINGS = GkeSettings()
SHARE = Filestore("10.0.0.2", "vol1/team", "/mnt/team")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Nowhere:
    """Credentials that nothing should ask."""

    async def server(self) -> Server:
        raise AssertionError("no call is needed")

    async def headers(self) -> dict[str, str]:
        raise AssertionError("no call is needed")

    def forget(self) -> None:
        pass


def pod(session: Session, settings: GkeSettings = SETTINGS, bucket: str = "bucket-1") -> V1Pod:
    parsed = V1Pod.from_dict(manifests.pod(session, settings, bucket))
    assert parsed is not None
    return parsed


def spec(session: Session, settings: GkeSettings = SETTINGS) -> dict[str, Any]:
    found: dict[str, Any] = manifests.pod(session, settings, "bucket-1")["spec"]
    return found


def test_every_manifest_is_one_that_the_client_knows() -> None:
    session = a_session(long_lived=True, storage=Storage(filestore=SHARE), labels={"team": "x"})
    settings = GkeSettings(runtime_class="gvisor", storage_class="premium-rwo", service_account="buckets")
    for model, manifest in (
        (V1Pod, manifests.pod(session, settings, "bucket-1")),
        (V1Namespace, manifests.namespace(session)),
        (V1NetworkPolicy, manifests.network_policy(session)),
        (V1NetworkPolicy, manifests.default_deny()),
        (V1Secret, manifests.secret(session, {"A": "1"})),
        (V1PersistentVolumeClaim, manifests.volume_claim(session, settings)),
    ):
        model.model_validate(manifest)  # unknown fields and wrong types fail


def test_a_pod_keeps_the_restricted_standard() -> None:
    found = spec(a_session())
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = found["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert found["automountServiceAccountToken"] is False
    assert found["enableServiceLinks"] is False


def test_what_a_session_may_use_is_what_it_has() -> None:
    resources = spec(a_session(resources=Resources(0.5, 3 << 29)))["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"] == {"cpu": "500m", "memory": "1536Mi", "ephemeral-storage": "10Gi"}


def test_the_environment_is_in_the_secret_and_not_in_the_pod() -> None:
    session = a_session()
    assert manifests.secret(session, {"TOKEN": "s3cret"})["stringData"] == {"TOKEN": "s3cret"}
    assert "s3cret" not in str(manifests.pod(session, SETTINGS, "bucket-1"))
    assert spec(session)["containers"][0]["envFrom"] == [{"secretRef": {"name": session.id}}]


def test_a_session_has_its_own_disk_only_when_it_is_long_lived() -> None:
    volumes = {one["name"]: one for one in spec(a_session())["volumes"]}
    assert volumes["workspace"] == {"name": "workspace", "emptyDir": {"sizeLimit": "10Gi"}}
    session = a_session(long_lived=True)
    volumes = {one["name"]: one for one in spec(session)["volumes"]}
    assert volumes["workspace"]["persistentVolumeClaim"] == {"claimName": session.id}


def test_the_bucket_is_mounted_where_it_was_asked_for() -> None:
    session = a_session(storage=Storage("datasets", "/in/put"))
    mounts = {one["name"]: one["mountPath"] for one in spec(session)["containers"][0]["volumeMounts"]}
    assert mounts == {"workspace": "/workspace", "bucket": "/in/put"}
    found = pod(session)
    assert found.metadata is not None
    assert (found.metadata.annotations or {})["gke-gcsfuse/volumes"] == "true"


@pytest.mark.parametrize(
    ("session", "settings"),
    [(a_session(egress=False), SETTINGS), (a_session(), GkeSettings(buckets=False))],
    ids=["no network", "no driver"],
)
def test_no_bucket_is_mounted_where_it_could_not_be_reached(session: Session, settings: GkeSettings) -> None:
    manifest = manifests.pod(session, settings, "bucket-1")
    assert [one["name"] for one in manifest["spec"]["volumes"]] == ["workspace"]
    assert "gke-gcsfuse/volumes" not in manifest["metadata"]["annotations"]


def test_the_account_for_buckets_is_for_pods_with_a_bucket() -> None:
    settings = GkeSettings(service_account="buckets")
    assert spec(a_session(), settings)["serviceAccountName"] == "buckets"
    assert "serviceAccountName" not in spec(a_session(egress=False), settings)


def test_only_the_agents_port_is_open_and_the_way_out_is_by_request() -> None:
    shut = manifests.network_policy(a_session(egress=False))["spec"]
    assert shut["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8080}]}]
    assert (shut["egress"], shut["policyTypes"]) == ([], ["Ingress", "Egress"])
    anywhere, dns = manifests.network_policy(a_session())["spec"]["egress"]
    assert {one["ipBlock"]["cidr"]: one["ipBlock"]["except"] for one in anywhere["to"]} == {
        "0.0.0.0/0": ["169.254.0.0/16"],
        "::/0": ["fe80::/10"],
    }
    assert {one["port"] for one in dns["ports"]} == {53}
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in dns["to"]


@pytest.mark.parametrize(
    ("tenant", "namespace"),
    [("default", "test"), ("a" * 63, "b" * 63), ("UPPER_case@x.y", "ns.with.dots"), ("_", "@")],
)
def test_namespaces_are_legal_names(tenant: str, namespace: str) -> None:
    assert LABEL.fullmatch(manifests.namespace_name(a_session(tenant=tenant, namespace=namespace)))


def test_no_two_namespaces_of_tenants_share_one() -> None:
    pairs = [("a", "b-c"), ("a-b", "c"), ("A", "b-c"), ("a", "b_c"), ("a" * 63, "x"), ("a" * 63, "y")]
    names = {manifests.namespace_name(a_session(tenant=tenant, namespace=name)) for tenant, name in pairs}
    assert len(names) == len(pairs)


def test_sessions_with_a_share_are_apart_since_the_restricted_standard_knows_no_nfs() -> None:
    shared = a_session(storage=Storage(filestore=SHARE))
    assert manifests.namespace_name(shared) != manifests.namespace_name(a_session())
    levels = [manifests.namespace(one)["metadata"]["labels"] for one in (shared, a_session())]
    assert [one["pod-security.kubernetes.io/enforce"] for one in levels] == ["baseline", "restricted"]


def test_labels_that_kubernetes_does_not_take_are_kept_as_an_annotation() -> None:
    metadata = manifests.pod(a_session(labels={"team": "x", "odd-": "y", "even": "z_"}), SETTINGS, "b")["metadata"]
    own = {key for key in metadata["labels"] if key.startswith("labels.onmemos.dev/")}
    assert own == {"labels.onmemos.dev/team"}
    assert metadata["annotations"]["onmemos.dev/labels"] == '{"even": "z_", "odd-": "y", "team": "x"}'


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(1 << 30, "1Gi"), (3 << 29, "1536Mi"), (1 << 10, "1Ki"), (1000, "1000")]
)
def test_quantities_are_exact(size_bytes: int, text: str) -> None:
    assert manifests.quantity(size_bytes) == text
    assert amount(text) == size_bytes


@pytest.mark.parametrize(("text", "number"), [("250m", 0.25), ("2", 2), ("1.5", 1.5), ("4G", 4e9), ("", 0), ("x", 0)])
def test_quantities_are_read(text: str, number: float) -> None:
    assert amount(text) == number


@pytest.mark.parametrize(
    ("wanted", "settings", "field"),
    [
        (Wanted("python", Resources(0.1, 1 << 30)), SETTINGS, "resources.cpu"),
        (Wanted("python", Resources(31, 1 << 30)), SETTINGS, "resources.cpu"),
        (Wanted("python", Resources(1, 1 << 20)), SETTINGS, "resources.memory"),
        (Wanted("python", Resources(1, 1 << 40)), SETTINGS, "resources.memory"),
        (Wanted("python", Resources(), storage=Storage("b")), GkeSettings(buckets=False), "storage.bucket"),
        (Wanted("python", Resources(), storage=Storage(keep=True)), GkeSettings(buckets=False), "storage.keep"),
        (Wanted("python", Resources(), egress=False, storage=Storage("b")), SETTINGS, "storage.bucket"),
        (Wanted("python", Resources(), egress=False, storage=Storage(mount_path="/x")), SETTINGS, "storage.mount_path"),
    ],
)
def test_what_a_cluster_does_not_have_is_refused_by_name(wanted: Wanted, settings: GkeSettings, field: str) -> None:
    with pytest.raises(InvalidRequest, match="on gke") as refusal:
        Gke(settings, Nowhere()).check(wanted)
    assert list(refusal.value.errors) == [field]


def test_ordinary_wishes_are_served() -> None:
    provider = Gke(GkeSettings(buckets=False), Nowhere())
    provider.check(Wanted("python", Resources(), egress=False, storage=Storage(filestore=SHARE), long_lived=True))
    assert provider.keeps_files(a_session(long_lived=True))
    assert not provider.keeps_files(a_session())
