"""What the real API server refuses, and how: code, reason, message, causes."""

from typing import Any

import pytest

from tests.contract.kubernetes.requests import Json, Namespace, a_config_map, a_pod, refused, told
from tests.contract.kubernetes_rig import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="session")

POLICIES = "networkpolicies.networking.k8s.io/v1"
LABEL = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
SUBDOMAIN = "a lowercase RFC 1123 subdomain must consist of"


def a_container(**fields: Any) -> Json:
    return {"name": "main", "image": "python:3.12", **fields}


def with_container(**fields: Any) -> Json:
    return a_pod(containers=[a_container(**fields)])


@pytest.mark.parametrize(
    ("pod", "field", "message"),
    [
        (a_pod("Bad_Name"), "metadata.name", f'Invalid value: "Bad_Name": {SUBDOMAIN}'),
        (a_pod(containers=[]), "spec.containers", "Required value"),
        (a_pod(containers=[{"name": "main"}]), "spec.containers[0].image", "Required value"),
        (with_container(name="Main"), "spec.containers[0].name", f'Invalid value: "Main": {LABEL}'),
        (
            a_pod(containers=[a_container(), a_container()]),
            "spec.containers[1].name",
            'Duplicate value: "main"',
        ),
        (
            with_container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            "spec.containers[0].resources.requests",
            'Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            with_container(ports=[{"containerPort": 70000}]),
            "spec.containers[0].ports[0].containerPort",
            "Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            with_container(imagePullPolicy="Sometimes"),
            "spec.containers[0].imagePullPolicy",
            'Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"',
        ),
        (
            with_container(volumeMounts=[{"name": "none", "mountPath": "/x"}]),
            "spec.containers[0].volumeMounts[0].name",
            'Not found: "none"',
        ),
        (
            a_pod(volumes=[{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]),
            "spec.volumes[0].secret",
            "Forbidden: may not specify more than 1 volume type",
        ),
        (
            with_container(livenessProbe={"periodSeconds": 1}),
            "spec.containers[0].livenessProbe",
            "Required value: must specify a handler type",
        ),
        (a_pod(restartPolicy="Maybe"), "spec.restartPolicy", 'Unsupported value: "Maybe": supported values: "Always"'),
        (
            a_pod(securityContext={"runAsUser": -1}),
            "spec.securityContext.runAsUser",
            "Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
    ],
)
async def test_a_pod_that_is_invalid(namespace: Namespace, pod: Json, field: str, message: str) -> None:
    refusal = refused(await namespace.post("pods", pod), 422, "Invalid")
    assert refusal["message"].startswith(f'Pod "{pod["metadata"]["name"]}" is invalid: ')
    causes = {cause["field"]: cause["message"] for cause in refusal["details"]["causes"]}
    assert causes[field].startswith(message)
    assert refusal["details"]["kind"] == "Pod"


async def test_many_faults_are_told_at_once(namespace: Namespace) -> None:
    pod = a_pod("x" * 254, containers=[{"name": "A", "image": ""}])
    refusal = refused(await namespace.post("pods", pod), 422, "Invalid")
    assert " is invalid: [metadata.name: Invalid value: " in refusal["message"]
    assert {cause["reason"] for cause in refusal["details"]["causes"]} == {"FieldValueInvalid", "FieldValueRequired"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a b": "c"}, "name part must consist of alphanumeric characters"),
        ({"a": "b c"}, "a valid label must be an empty string or consist of"),
        ({"a": "x" * 64}, "must be no more than 63 "),
        ({"Example.com/a": "b"}, f"prefix part {SUBDOMAIN}"),
        ({"/a": "b"}, "prefix part must be non-empty"),
    ],
)
async def test_labels_have_a_syntax(namespace: Namespace, labels: dict[str, str], message: str) -> None:
    body = a_config_map()
    body["metadata"]["labels"] = labels
    refusal = refused(await namespace.post("configmaps", body), 422, "Invalid")
    assert refusal["details"]["causes"][0]["field"] == "metadata.labels"
    assert message in refusal["message"]


@pytest.mark.parametrize(
    ("peer", "where", "message"),
    [
        ({"ipBlock": {"cidr": "10.0.0.0"}}, ".ipBlock.cidr", 'Invalid value: "10.0.0.0": must be a valid CIDR value'),
        ({"ipBlock": {"cidr": "10.0.0.0/33"}}, ".ipBlock.cidr", "Invalid value"),
        (
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["192.168.0.0/16"]}},
            ".ipBlock.except[0]",
            'Invalid value: "192.168.0.0/16": must be a strict subset of `cidr`',
        ),
        ({}, "", "Required value: must specify a peer"),
        (
            {"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}},
            "",
            "Forbidden: may not specify both ipBlock and another peer",
        ),
    ],
)
async def test_a_network_policy_names_networks(namespace: Namespace, peer: Json, where: str, message: str) -> None:
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [peer]}]}
    refusal = refused(await namespace.post(POLICIES, {"metadata": {"name": "n"}, "spec": spec}), 422, "Invalid")
    assert refusal["message"].startswith('NetworkPolicy.networking.k8s.io "n" is invalid: spec.egress[0].to[0]')
    cause = refusal["details"]["causes"][0]
    assert cause["field"] == f"spec.egress[0].to[0]{where}"
    assert cause["message"].startswith(message)


@pytest.mark.parametrize(
    ("plural", "body", "message"),
    [
        (
            "pods",
            with_container(resources={"limits": {"memory": "lots"}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "pods",
            with_container(image=3),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.",
        ),
        ("pods", {"metadata": {"name": "p"}, "spec": {"containers": {}}}, "json: cannot unmarshal object into Go"),
        ("secrets", {"metadata": {"name": "s"}, "data": {"a": "?"}}, "illegal base64 data at input byte 0"),
        ("configmaps", {"metadata": {"name": "c", "labels": {"a": 1}}}, "json: cannot unmarshal number into Go"),
        (
            "configmaps",
            {"kind": "Pod", "metadata": {"name": "c"}},
            'Pod in version "v1" cannot be handled as a ConfigMap: ',
        ),
        (
            "configmaps",
            {"apiVersion": "v2", "metadata": {"name": "c"}},
            'ConfigMap in version "v2" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for '
            'version "v2"',
        ),
    ],
)
async def test_a_body_that_does_not_decode(namespace: Namespace, plural: str, body: Json, message: str) -> None:
    assert message in refused(await namespace.post(plural, body), 400, "BadRequest")["message"]


async def test_no_json_is_no_body(namespace: Namespace) -> None:
    answer = await namespace.cluster.http.post(
        namespace.path("configmaps"), content="{", headers={"Content-Type": "application/json"}
    )
    refused(answer, 400, "BadRequest")


async def test_unknown_fields_are_dropped_warned_of_or_refused(namespace: Namespace) -> None:
    pod = with_container(colour="red")
    warned = await namespace.post("pods", pod, dryRun="All")
    assert "colour" not in told(warned, 201)["spec"]["containers"][0]
    assert '299 - "unknown field \\"spec.containers[0].colour\\""' in warned.headers["warning"]
    silent = await namespace.post("pods", pod, dryRun="All", fieldValidation="Ignore")
    assert "unknown field" not in silent.headers.get("warning", "")
    refusal = refused(await namespace.post("pods", pod, fieldValidation="Strict"), 400, "BadRequest")
    assert refusal["message"] == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: '
        'unknown field "spec.containers[0].colour"'
    )


async def test_a_pods_spec_is_immutable_but_for_its_images(namespace: Namespace) -> None:
    made = await namespace.create("pods", a_pod())
    made["spec"]["containers"][0]["image"] = "python:3.13"
    changed = told(await namespace.put("pods", "pod", made))
    assert changed["metadata"]["generation"] == 2
    changed["spec"]["containers"][0]["command"] = ["sh"]
    refusal = refused(await namespace.put("pods", "pod", changed), 422, "Invalid")
    assert "pod updates may not change fields other than `spec.containers[*].image`" in refusal["message"]


async def default_classes(cluster: Cluster) -> set[str | None]:
    """What a claim gets that names none."""
    if cluster.is_emulated:
        return {"standard"}
    classes = told(await cluster.http.get("/apis/storage.k8s.io/v1/storageclasses"))["items"]
    mark = "storageclass.kubernetes.io/is-default-class"
    marked = [one for one in classes if (one["metadata"].get("annotations") or {}).get(mark) == "true"]
    return {one["metadata"]["name"] for one in marked} or {None}


async def test_a_claim_says_how_much_and_never_another(namespace: Namespace) -> None:
    body: Json = {"metadata": {"name": "c"}, "spec": {}}
    refusal = refused(await namespace.post("persistentvolumeclaims", body), 422, "Invalid")
    assert [cause["field"] for cause in refusal["details"]["causes"]] == ["spec.accessModes", "spec.resources[storage]"]
    body["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = await namespace.create("persistentvolumeclaims", body, dryRun="All")
    assert made["spec"].get("storageClassName") in await default_classes(namespace.cluster)
    body["spec"]["storageClassName"] = f"none-of-{namespace.name}"  # nobody has it, and nobody binds the claim
    made = await namespace.create("persistentvolumeclaims", body)
    made["spec"]["accessModes"] = ["ReadWriteMany"]
    refusal = refused(await namespace.put("persistentvolumeclaims", "c", made), 422, "Invalid")
    assert "spec is immutable after creation" in refusal["message"]


async def test_what_is_immutable_stays(namespace: Namespace) -> None:
    body = {"metadata": {"name": "s"}, "data": {"a": "Yg=="}, "immutable": True}
    await namespace.create("secrets", body)
    answer = await namespace.patch("secrets", "s", {"data": {"a": "Yw=="}})
    assert "field is immutable when `immutable` is set" in refused(answer, 422, "Invalid")["message"]
    answer = await namespace.patch("secrets", "s", {"type": "other"})
    assert "type: Invalid value" in refused(answer, 422, "Invalid")["message"]


async def test_a_token_that_is_none_lets_nobody_in(cluster: Cluster) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    answer = await cluster.anonymous.get("/api/v1/namespaces", headers=wrong)
    assert refused(answer, 401, "Unauthorized")["message"] == "Unauthorized"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YTpi"}])
async def test_nobody_sees_objects_without_a_token(cluster: Cluster, headers: dict[str, str]) -> None:
    answer = await cluster.anonymous.get("/api/v1/namespaces", headers=headers)
    if cluster.is_emulated or answer.status_code == 401:  # as GKE, which knows nobody but where health is asked for
        refused(answer, 401, "Unauthorized")
    else:
        assert 'User "system:anonymous" cannot list' in refused(answer, 403, "Forbidden")["message"]


async def test_what_is_not_served_is_refused_in_words(namespace: Namespace) -> None:
    http = namespace.cluster.http
    missing = refused(await http.get("/api/v1/boats"), 404, "NotFound")
    assert missing["message"] == "the server could not find the requested resource"
    unknown = await http.get("/apis/sea.example.com/v1/boats")
    assert (unknown.status_code, unknown.text) == (404, "404 page not found\n")
    refused(await http.post(namespace.path("configmaps", "x"), json={}), 405, "MethodNotAllowed")
    refused(await http.put(namespace.path("configmaps"), json={}), 405, "MethodNotAllowed")
    answer = await http.get(namespace.path("pods"), headers={"Accept": "text/html"})
    assert "application/json" in refused(answer, 406, "NotAcceptable")["message"]
    answer = await http.post(namespace.path("configmaps"), content="x", headers={"Content-Type": "text/plain"})
    refused(answer, 415, "UnsupportedMediaType")
    answer = await namespace.patch("configmaps", "x", {}, form="peach")
    assert "application/strategic-merge-patch+json" in refused(answer, 415, "UnsupportedMediaType")["message"]
    answer = await http.post(namespace.path("configmaps"), json={"metadata": {"name": "x" * (3 << 20)}})
    refused(answer, 413, "RequestEntityTooLarge")
