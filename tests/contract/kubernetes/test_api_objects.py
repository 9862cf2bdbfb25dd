"""Objects through the API: made, read, replaced, listed, deleted, with the words of the real server."""

from uuid import uuid4

import httpx
import pytest

from tests.contract.kubernetes.requests import Namespace, a_config_map, a_pod, a_secret, refused, soon, told
from tests.contract.kubernetes_rig import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_created_object_has_what_only_the_server_gives(namespace: Namespace) -> None:
    made = await namespace.create("configmaps", a_config_map())
    metadata = made["metadata"]
    assert made["kind"] == "ConfigMap"
    assert made["apiVersion"] == "v1"
    assert metadata["namespace"] == namespace.name
    assert metadata["uid"]
    assert metadata["resourceVersion"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert await namespace.get("configmaps", "settings") == made


async def test_a_name_is_generated_on_request(namespace: Namespace) -> None:
    body = {"metadata": {"generateName": "web-"}}
    names = {(await namespace.create("configmaps", body))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_a_name_is_taken_once(namespace: Namespace) -> None:
    await namespace.create("configmaps", a_config_map())
    refusal = refused(await namespace.post("configmaps", a_config_map()), 409, "AlreadyExists")
    assert refusal["message"] == 'configmaps "settings" already exists'
    assert refusal["details"] == {"name": "settings", "kind": "configmaps"}


async def test_what_is_not_there_is_not_found_under_its_groups_name(namespace: Namespace) -> None:
    path = namespace.path("networkpolicies.networking.k8s.io/v1", "none")
    refusal = refused(await namespace.cluster.http.get(path), 404, "NotFound")
    assert refusal["message"] == 'networkpolicies.networking.k8s.io "none" not found'
    assert refusal["details"] == {"name": "none", "group": "networking.k8s.io", "kind": "networkpolicies"}


async def test_an_old_version_does_not_replace_a_newer_one(namespace: Namespace) -> None:
    first = await namespace.create("configmaps", a_config_map())
    second = told(await namespace.put("configmaps", "settings", {**first, "data": {"a": "2"}}))
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    refusal = refused(await namespace.put("configmaps", "settings", first), 409, "Conflict")
    assert refusal["message"] == (
        'Operation cannot be fulfilled on configmaps "settings": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_an_update_that_changes_nothing_is_none(namespace: Namespace) -> None:
    made = await namespace.create("configmaps", a_config_map())
    assert told(await namespace.put("configmaps", "settings", made)) == made


async def test_a_body_belongs_to_its_path(namespace: Namespace) -> None:
    made = await namespace.create("configmaps", a_config_map())
    other = {**made, "metadata": {**made["metadata"], "name": "other"}}
    refusal = refused(await namespace.put("configmaps", "settings", other), 400, "BadRequest")
    assert refusal["message"] == "the name of the object (other) does not match the name on the URL (settings)"
    stranger = {"metadata": {"name": "x", "namespace": "elsewhere"}}
    refusal = refused(await namespace.post("configmaps", stranger), 400, "BadRequest")
    assert "does not match the namespace sent on the request" in refusal["message"]


async def test_a_dry_run_leaves_nothing_and_answers_as_if(namespace: Namespace) -> None:
    made = await namespace.create("configmaps", a_config_map(), dryRun="All")
    assert made["metadata"]["uid"]
    refused(await namespace.cluster.http.get(namespace.path("configmaps", "settings")), 404, "NotFound")
    refusal = refused(await namespace.post("configmaps", a_config_map(), dryRun="Some"), 422, "Invalid")
    assert 'supported values: "All"' in refusal["message"]


async def test_lists_are_selected_by_labels(namespace: Namespace) -> None:
    for name, tier in (("a", "front"), ("b", "back"), ("c", "")):
        await namespace.create("secrets", a_secret(name, **({"tier": tier} if tier else {})))

    async def names(selector: str) -> str:
        found = await namespace.get("secrets", labelSelector=selector)
        return "".join(item["metadata"]["name"] for item in found["items"])

    assert await names("tier=front") == "a"
    assert await names("tier!=front") == "bc"
    assert await names("tier in (front, back)") == "ab"
    assert await names("tier notin (front)") == "bc"
    assert await names("tier") == "ab"
    assert await names("!tier") == "c"
    assert await names("tier,tier!=back") == "a"
    answer = await namespace.cluster.http.get(namespace.path("secrets"), params={"labelSelector": "a=(b"})
    refused(answer, 400, "BadRequest")


async def test_lists_are_selected_by_the_fields_that_a_kind_has(namespace: Namespace) -> None:
    await namespace.create("pods", a_pod("a"))
    await namespace.create("pods", a_pod("b"))
    found = await namespace.get("pods", fieldSelector="metadata.name=b,status.phase=Pending,spec.nodeName=")
    assert [item["metadata"]["name"] for item in found["items"]] == ["b"]
    answer = await namespace.cluster.http.get(namespace.path("pods"), params={"fieldSelector": "spec.color=red"})
    assert "field label not supported: spec.color" in refused(answer, 400, "BadRequest")["message"]


async def test_pages_show_one_state_whatever_happens_between(namespace: Namespace) -> None:
    for name in "abc":
        await namespace.create("secrets", a_secret(name))
    first = await namespace.get("secrets", limit="2")
    assert first["metadata"]["remainingItemCount"] == 1
    await namespace.create("secrets", a_secret("d"))
    told(await namespace.delete("secrets", "c"))
    rest = await namespace.get("secrets", limit="2", **{"continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in rest["metadata"]
    since = first["metadata"]["resourceVersion"]
    past = await namespace.get("secrets", resourceVersionMatch="Exact", resourceVersion=since)
    assert [item["metadata"]["name"] for item in past["items"]] == ["a", "b", "c"]


async def test_a_resource_version_of_the_future_is_waited_for_in_vain(namespace: Namespace) -> None:
    answer = await namespace.cluster.http.get(namespace.path("pods"), params={"resourceVersion": str(10**18)})
    assert "Too large resource version" in refused(answer, 504, "Timeout")["message"]


async def test_a_deletion_tells_of_what_it_deleted(namespace: Namespace) -> None:
    made = await namespace.create("configmaps", a_config_map())
    status = told(await namespace.delete("configmaps", "settings"))
    assert status["status"] == "Success"
    assert status["details"] == {"name": "settings", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    refused(await namespace.delete("configmaps", "settings"), 404, "NotFound")


async def test_a_deletion_holds_to_its_preconditions(namespace: Namespace) -> None:
    made = await namespace.create("pods", a_pod())
    refusal = refused(await namespace.delete("pods", "pod", {"preconditions": {"uid": "other"}}), 409, "Conflict")
    assert "the UID in the precondition (other) does not match the UID in record" in refusal["message"]
    gone = told(await namespace.delete("pods", "pod", {"preconditions": {"uid": made["metadata"]["uid"]}}))
    assert gone["kind"] == "Pod"
    assert int(gone["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


async def test_finalizers_hold_what_is_being_deleted(namespace: Namespace) -> None:
    body = a_config_map()
    body["metadata"]["finalizers"] = ["example.com/hold"]
    await namespace.create("configmaps", body)
    held = told(await namespace.delete("configmaps", "settings"))
    assert held["metadata"]["deletionTimestamp"]
    added = await namespace.patch(
        "configmaps", "settings", {"metadata": {"finalizers": ["example.com/a", "example.com/hold"]}}
    )
    assert "no new finalizers can be added if the object is being deleted" in refused(added, 422, "Invalid")["message"]
    told(await namespace.patch("configmaps", "settings", {"metadata": {"finalizers": None}}))
    refused(await namespace.delete("configmaps", "settings"), 404, "NotFound")


async def test_a_pod_on_a_node_has_its_grace(namespace: Namespace) -> None:
    await namespace.create("pods", a_pod(nodeName="node-1", terminationGracePeriodSeconds=20))
    marked = told(await namespace.delete("pods", "pod"))
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 20
    assert marked["metadata"]["deletionTimestamp"]
    longer = told(await namespace.delete("pods", "pod", gracePeriodSeconds="60"))
    assert longer["metadata"]["deletionGracePeriodSeconds"] == 20
    unheard = told(await namespace.delete("pods", "pod", {}, gracePeriodSeconds="5"))  # a body is heard alone
    assert unheard["metadata"]["deletionGracePeriodSeconds"] == 20
    shorter = told(await namespace.delete("pods", "pod", {"gracePeriodSeconds": 5}))
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    told(await namespace.delete("pods", "pod", gracePeriodSeconds="0"))
    refused(await namespace.delete("pods", "pod"), 404, "NotFound")


async def test_a_collection_is_deleted_by_selector(namespace: Namespace) -> None:
    for name, keep in (("a", "no"), ("b", "yes")):
        await namespace.create("secrets", a_secret(name, keep=keep))
    answer = await namespace.delete("secrets", labelSelector="keep=no")
    assert [item["metadata"]["name"] for item in told(answer)["items"]] == ["a"]
    assert len((await namespace.get("secrets"))["items"]) == 1


async def test_the_status_is_a_resource_of_its_own(namespace: Namespace) -> None:
    made = await namespace.create("pods", {**a_pod(), "status": {"phase": "Running"}})
    assert made["status"]["phase"] == "Pending"
    ignored = told(await namespace.put("pods", "pod", {**made, "status": {"phase": "Failed"}}))
    assert ignored["status"]["phase"] == "Pending"
    changed = {**made, "status": {"phase": "Running"}, "metadata": {**made["metadata"], "labels": {"a": "b"}}}
    seen = told(await namespace.put("pods", "pod/status", changed))
    assert seen["status"]["phase"] == "Running"
    assert seen["metadata"]["labels"] == {"a": "b"}  # who writes the status writes metadata with it
    assert seen["metadata"]["generation"] == made["metadata"]["generation"]


async def test_what_a_secret_is_told_in_plain_it_keeps_in_base64(namespace: Namespace) -> None:
    made = await namespace.create("secrets", {"metadata": {"name": "s"}, "stringData": {"key": "value"}})
    assert made["data"] == {"key": "dmFsdWU="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made


async def test_a_namespace_that_is_being_deleted_takes_nothing_new(namespace: Namespace) -> None:
    http, path = namespace.cluster.http, f"/api/v1/namespaces/{namespace.name}"
    held = a_secret("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await namespace.create("secrets", held)  # no controller ends the namespace before this goes
    ended = told(await http.delete(path))
    assert ended["status"]["phase"] == "Terminating"
    refusal = refused(await namespace.post("configmaps", a_config_map()), 403, "Forbidden")
    assert refusal["message"] == (
        f'configmaps "settings" is forbidden: unable to create new content in namespace {namespace.name} '
        "because it is being terminated"
    )
    assert refusal["details"]["causes"][0]["reason"] == "NamespaceTerminating"


async def test_a_namespace_goes_with_its_last_finalizer(namespace: Namespace) -> None:
    http, path = namespace.cluster.http, f"/api/v1/namespaces/{namespace.name}"
    ended = told(await http.delete(path))
    if not await namespace.cluster.has_controllers():
        told(await http.put(f"{path}/finalize", json={**ended, "spec": {"finalizers": []}}))
        refused(await http.get(path), 404, "NotFound")
    else:
        await soon(lambda: http.get(path), lambda answer: answer.status_code == httpx.codes.NOT_FOUND)


async def test_some_namespaces_stay(cluster: Cluster) -> None:
    answer = await cluster.http.delete("/api/v1/namespaces/default", params={"dryRun": "All"})
    assert refused(answer, 403, "Forbidden")["message"] == (
        'namespaces "default" is forbidden: this namespace may not be deleted'
    )


async def test_a_namespace_is_needed(cluster: Cluster) -> None:
    name = f"nowhere-{uuid4().hex[:8]}"
    answer = await cluster.http.post(f"/api/v1/namespaces/{name}/configmaps", json=a_config_map())
    assert refused(answer, 404, "NotFound")["message"] == f'namespaces "{name}" not found'
