"""Patches of all four kinds; server-side apply with its managers and their conflicts."""

from typing import Any

import pytest

from tests.contract.kubernetes.requests import Json, Namespace, a_config_map, a_pod, refused, told

pytestmark = pytest.mark.asyncio(loop_scope="session")


def two_containers() -> Json:
    return a_pod(containers=[{"name": "a", "image": "one:1"}, {"name": "b", "image": "two:1"}])


async def apply(namespace: Namespace, manager: str, data: dict[str, str], **query: str) -> Any:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}
    return await namespace.patch("configmaps", "settings", body, "apply", fieldManager=manager, **query)


async def test_a_merge_patch_replaces_lists_and_removes_nulls(namespace: Namespace) -> None:
    await namespace.create("configmaps", a_config_map(a="1", b="2"))
    patched = told(await namespace.patch("configmaps", "settings", {"data": {"a": None, "c": "3"}}))
    assert patched["data"] == {"b": "2", "c": "3"}


async def test_a_strategic_merge_patch_finds_items_by_their_key(namespace: Namespace) -> None:
    await namespace.create("pods", two_containers())
    patch = {"spec": {"containers": [{"name": "b", "image": "two:2"}]}}
    patched = told(await namespace.patch("pods", "pod", patch, "strategic-merge"))
    assert [one["image"] for one in patched["spec"]["containers"]] == ["one:1", "two:2"]
    keyless = {"spec": {"containers": [{"image": "x"}]}}
    answer = await namespace.patch("pods", "pod", keyless, "strategic-merge")
    assert told(answer, 500)["message"] == "map: map[image:x] does not contain declared merge key: name"
    assert "reason" not in answer.json()  # the server takes it for its own fault


async def test_a_strategic_merge_patch_takes_directives(namespace: Namespace) -> None:
    body = a_config_map(a="1", b="2")
    body["metadata"]["finalizers"] = ["example.com/a", "example.com/b"]
    await namespace.create("configmaps", body)
    patch = {
        "data": {"$patch": "replace", "z": "9"},
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]},
    }
    patched = told(await namespace.patch("configmaps", "settings", patch, "strategic-merge"))
    assert patched["data"] == {"z": "9"}
    assert patched["metadata"]["finalizers"] == ["example.com/b"]
    told(await namespace.patch("configmaps", "settings", {"metadata": {"finalizers": None}}))


async def test_a_json_patch_is_done_whole_or_not_at_all(namespace: Namespace) -> None:
    await namespace.create("configmaps", a_config_map(a="1"))
    steps = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "2"},
    ]
    patched = told(await namespace.patch("configmaps", "settings", steps, "json"))
    assert patched["data"] == {"a": "2"}
    answer = await namespace.patch("configmaps", "settings", steps, "json")
    assert refused(answer, 422, "Invalid")["message"] == (
        "the server rejected our request due to an error in our request"
    )
    missing = [{"op": "add", "path": "/data/c", "value": "3"}, {"op": "remove", "path": "/data/none"}]
    refused(await namespace.patch("configmaps", "settings", missing, "json"), 422, "Invalid")
    assert (await namespace.get("configmaps", "settings"))["data"] == {"a": "2"}


async def test_a_patch_may_insist_on_a_version(namespace: Namespace) -> None:
    made = await namespace.create("configmaps", a_config_map())
    told(await namespace.patch("configmaps", "settings", {"data": {"a": "2"}}))
    patch = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"a": "3"}}
    refused(await namespace.patch("configmaps", "settings", patch), 409, "Conflict")


async def test_a_patch_does_not_rename(namespace: Namespace) -> None:
    await namespace.create("configmaps", a_config_map())
    answer = await namespace.patch("configmaps", "settings", {"metadata": {"name": "other"}})
    assert refused(answer, 400, "BadRequest")["message"] == (
        "the name of the object (other) does not match the name on the URL (settings)"
    )


async def test_an_apply_makes_changes_and_takes_back(namespace: Namespace) -> None:
    made = told(await apply(namespace, "us", {"a": "1", "b": "2"}), 201)
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("us", "Apply", "v1")
    assert entry["fieldsV1"] == {"f:data": {"f:a": {}, "f:b": {}}}
    same = told(await apply(namespace, "us", {"a": "1", "b": "2"}))
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    less = told(await apply(namespace, "us", {"a": "1"}))
    assert less["data"] == {"a": "1"}


async def test_managers_share_an_object_and_quarrel_about_a_field(namespace: Namespace) -> None:
    told(await apply(namespace, "us", {"a": "1"}), 201)
    shared = told(await apply(namespace, "them", {"b": "2"}))
    assert shared["data"] == {"a": "1", "b": "2"}
    refusal = refused(await apply(namespace, "them", {"a": "3"}), 409, "Conflict")
    assert refusal["message"] == 'Apply failed with 1 conflict: conflict with "us": .data.a'
    assert refusal["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "us"', "field": ".data.a"}
    ]
    forced = told(await apply(namespace, "them", {"a": "3"}, force="true"))
    assert forced["data"] == {"a": "3"}
    owners = {entry["manager"]: entry["fieldsV1"] for entry in forced["metadata"]["managedFields"]}
    assert owners == {"them": {"f:data": {"f:a": {}}}}


async def test_the_same_value_is_no_quarrel(namespace: Namespace) -> None:
    told(await apply(namespace, "us", {"a": "1"}), 201)
    told(await apply(namespace, "them", {"a": "1"}))
    left = told(await apply(namespace, "us", {}))
    assert left["data"] == {"a": "1"}


async def test_updates_own_what_they_change(namespace: Namespace) -> None:
    told(await apply(namespace, "us", {"a": "1", "b": "2"}), 201)
    told(await namespace.patch("configmaps", "settings", {"data": {"a": "9"}}, fieldManager="kubectl-edit"))
    refusal = refused(await apply(namespace, "us", {"a": "1", "b": "2"}), 409, "Conflict")
    assert 'conflict with "kubectl-edit" using v1: .data.a' in refusal["message"]


async def test_applied_lists_merge_by_their_keys(namespace: Namespace) -> None:
    def body(*environment: tuple[str, str]) -> Json:
        variables = [{"name": name, "value": value} for name, value in environment]
        container = {"name": "main", "image": "python:3.12", "env": variables}
        return {"apiVersion": "v1", "kind": "Pod", **a_pod(containers=[container])}

    told(await namespace.patch("pods", "pod", body(("A", "1")), "apply", fieldManager="us"), 201)
    label = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "labels": {"a": "b"}}}
    merged = told(await namespace.patch("pods", "pod", label, "apply", fieldManager="them"))
    assert merged["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    entry = next(entry for entry in merged["metadata"]["managedFields"] if entry["manager"] == "us")
    assert 'k:{"name":"A"}' in entry["fieldsV1"]["f:spec"]["f:containers"]['k:{"name":"main"}']["f:env"]


async def test_an_apply_says_who_applies(namespace: Namespace) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    refusal = refused(await namespace.patch("configmaps", "settings", body, "apply"), 422, "Invalid")
    assert "fieldManager: Required value: is required for apply patch" in refusal["message"]
    body["metadata"]["managedFields"] = [{}]  # type: ignore[index]
    answer = await namespace.patch("configmaps", "settings", body, "apply", fieldManager="us")
    assert refused(answer, 400, "BadRequest")["message"] == "metadata.managedFields must be nil"
