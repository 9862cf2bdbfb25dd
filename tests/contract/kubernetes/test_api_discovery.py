"""What clients ask before anything else: version, health, groups, resources, schemas, tables, who they are."""

import re

import pytest
import yaml
from kubernetes.aio import client

from tests.contract.kubernetes.requests import NOBODY, Json, Namespace, a_pod, refused, told
from tests.contract.kubernetes_rig import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="session")

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
AGGREGATED = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"}


async def test_the_official_client_reads_all_of_it(cluster: Cluster) -> None:
    version = await client.VersionApi(cluster.api).get_code()
    if cluster.is_emulated:
        assert (version.major, version.minor) == ("1", "36")
    assert version.major == "1"
    assert int(re.sub(r"\D", "", version.minor)) >= 30
    assert (await client.CoreApi(cluster.api).get_api_versions()).versions == ["v1"]
    groups = await client.ApisApi(cluster.api).get_api_versions()
    assert "networking.k8s.io" in {group.name for group in groups.groups}
    resources = {one.name: one for one in (await client.CoreV1Api(cluster.api).get_api_resources()).resources}
    assert resources["pods"].short_names == ["po"]
    assert "pods/exec" in resources
    for api in (client.StorageV1Api, client.NodeV1Api, client.SchedulingV1Api, client.ApiextensionsV1Api):
        assert (await api(cluster.api).get_api_resources()).resources


async def test_the_official_client_works_with_objects(namespace: Namespace) -> None:
    core = client.CoreV1Api(namespace.cluster.api)
    container = client.V1Container(name="main", image="python:3.12")
    spec = client.V1PodSpec(containers=[container], scheduler_name=NOBODY)
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="p"), spec=spec)
    made = await core.create_namespaced_pod(namespace.name, pod)
    assert made.status
    assert made.metadata
    assert made.status.phase == "Pending"
    with pytest.raises(client.ApiException) as taken:
        await core.create_namespaced_pod(namespace.name, pod)
    assert (taken.value.status, taken.value.reason) == (409, "Conflict")
    (listed,) = (await core.list_namespaced_pod(namespace.name)).items
    assert listed.status == made.status
    gone = await core.delete_namespaced_pod("p", namespace.name)
    assert gone.metadata
    assert gone.metadata.uid == made.metadata.uid
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"a": "b"})
    assert (await core.create_namespaced_secret(namespace.name, secret)).data == {"a": "Yg=="}
    rules = client.V1NetworkPolicySpec(pod_selector=client.V1LabelSelector(), policy_types=["Ingress"])
    policy = client.V1NetworkPolicy(metadata=client.V1ObjectMeta(name="deny"), spec=rules)
    await client.NetworkingV1Api(namespace.cluster.api).create_namespaced_network_policy(namespace.name, policy)
    await core.delete_namespace(namespace.name)


async def test_health_and_version_are_public(cluster: Cluster) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        answer = await cluster.anonymous.get(path)
        if answer.status_code in (401, 403) and not cluster.is_emulated:
            pytest.skip("the API server does not speak with who has no credentials")
        assert (answer.status_code, answer.text == "ok") == (200, path != "/version")


async def test_discovery_in_one_answer(cluster: Cluster) -> None:
    answer = await cluster.http.get("/api", headers=AGGREGATED)
    assert answer.headers["content-type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    (version,) = told(answer)["items"][0]["versions"]
    pods = next(one for one in version["resources"] if one["resource"] == "pods")
    assert pods["scope"] == "Namespaced"
    assert "exec" in {one["subresource"] for one in pods["subresources"]}
    groups = {item["metadata"]["name"] for item in told(await cluster.http.get("/apis", headers=AGGREGATED))["items"]}
    assert {"networking.k8s.io", "authorization.k8s.io"} <= groups


def referred(schemas: Json, schema: Json) -> Json:
    """The schema that a property names; one with a default beside it names it in allOf."""
    reference = schema.get("$ref") or schema["allOf"][0]["$ref"]
    found: Json = schemas[reference.rpartition("/")[2]]
    return found


async def test_the_schemas_say_how_lists_merge(cluster: Cluster) -> None:
    root = told(await cluster.http.get("/openapi/v3"))["paths"]
    document = told(await cluster.http.get(root["api/v1"]["serverRelativeURL"]))
    parameters = document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]["parameters"]
    assert "fieldValidation" in {one["name"] for one in parameters}
    schemas = document["components"]["schemas"]
    kinds = {
        kind["kind"]: schema
        for schema in schemas.values()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
        if (kind["group"], kind["version"]) == ("", "v1")
    }
    containers = referred(schemas, kinds["Pod"]["properties"]["spec"])["properties"]["containers"]
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    assert "NetworkPolicy" not in kinds
    assert told(await cluster.http.get("/openapi/v2"))["swagger"] == "2.0"
    answer = await cluster.http.get("/openapi/v2", headers={"Accept": "application/x-protobuf"})
    assert answer.status_code == 406


async def test_tables_have_the_columns_that_kubectl_prints(namespace: Namespace) -> None:
    await namespace.create("pods", a_pod())
    table = told(await namespace.cluster.http.get(namespace.path("pods"), headers=TABLE))
    shown = [column["name"] for column in table["columnDefinitions"] if not column["priority"]]
    assert shown == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert table["rows"][0]["cells"][:4] == ["pod", "0/1", "Pending", "0"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


async def test_metadata_alone_on_request(namespace: Namespace) -> None:
    await namespace.create("pods", a_pod())
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    (item,) = told(await namespace.cluster.http.get(namespace.path("pods"), headers=accept))["items"]
    assert item["kind"] == "PartialObjectMetadata"
    assert "spec" not in item


async def test_yaml_both_ways(namespace: Namespace) -> None:
    answer = await namespace.cluster.http.post(
        namespace.path("configmaps"),
        content="metadata: {name: y}\ndata: {a: 'yes'}\n",
        headers={"Content-Type": "application/yaml", "Accept": "application/yaml"},
    )
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/yaml"
    assert yaml.safe_load(answer.text)["data"] == {"a": "yes"}


async def test_a_token_of_a_service_account_lets_in(namespace: Namespace) -> None:
    http = namespace.cluster.http
    path = namespace.path("serviceaccounts", "default/token")
    asked = told(await http.post(path, json={"spec": {"expirationSeconds": 600}}), 201)
    headers = {"Authorization": f"Bearer {asked['status']['token']}"}
    anonymous = namespace.cluster.anonymous
    review = await anonymous.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json={}, headers=headers)
    user = told(review, 201)["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{namespace.name}:default"
    forged = {"Authorization": f"{headers['Authorization'][:-4]}AAAA"}
    refused(await anonymous.get("/api/v1/namespaces", headers=forged), 401, "Unauthorized")
    refused(await http.post(path, json={"spec": {"expirationSeconds": 60}}), 422, "Invalid")


async def test_everybody_may_do_everything(cluster: Cluster) -> None:
    review = {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods"}}}
    answer = await cluster.http.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json=review)
    assert told(answer, 201)["status"]["allowed"] is True


async def test_a_pod_is_bound_and_evicted(namespace: Namespace) -> None:
    http = namespace.cluster.http
    await namespace.create("pods", a_pod())
    binding = {"metadata": {"name": "pod"}, "target": {"kind": "Node", "name": "node-1"}}
    assert told(await http.post(namespace.path("pods", "pod/binding"), json=binding), 201)["status"] == "Success"
    assert (await namespace.get("pods", "pod"))["spec"]["nodeName"] == "node-1"
    refused(await http.post(namespace.path("pods", "pod/binding"), json=binding), 409, "Conflict")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "pod"}}
    told(await http.post(namespace.path("pods", "pod/eviction"), json=eviction), 201)
    assert "deletionTimestamp" in (await namespace.get("pods", "pod"))["metadata"]
