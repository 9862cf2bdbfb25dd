"""CustomResourceDefinitions: what they define is served at once, checked against its schema, and goes with them."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.contract.kubernetes.requests import SOON_S, Json, Namespace, refused, soon, told, watched
from tests.contract.kubernetes_rig import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = f"sea-{secrets.token_hex(4)}.example.com"  # definitions are the whole cluster's
NAME = f"boats.{GROUP}"
BOATS = f"{NAME}/v1"


def a_definition(**schema: Any) -> Json:
    spec = {
        "type": "object",
        "required": ["sails"],
        "properties": {
            "sails": {"type": "integer", "minimum": 1},
            "kind": {"type": "string", "enum": ["sloop", "ketch"], "default": "sloop"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    properties = {"spec": spec, "status": {"type": "object", "properties": {"speed": {"type": "integer"}}}}
    return {
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "boats", "kind": "Boat", "shortNames": ["bt"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties, **schema}},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [{"name": "Sails", "type": "integer", "jsonPath": ".spec.sails"}],
                }
            ],
        },
    }


async def define(namespace: Namespace) -> None:
    """Until its objects can be made, which takes a real server a moment."""
    http = namespace.cluster.http
    told(await http.post(DEFINITIONS, json=a_definition()), 201)
    made = await soon(lambda: http.get(f"{DEFINITIONS}/{NAME}"), lambda answer: "Established" in conditions(answer))
    assert conditions(made).items() >= {"NamesAccepted": "True", "Established": "True"}.items()
    await soon(lambda: http.get(namespace.path(BOATS)), lambda answer: answer.status_code == httpx.codes.OK)
    await soon(lambda: http.get(f"/apis/{GROUP}/v1"), lambda answer: answer.status_code == httpx.codes.OK)


def conditions(answer: httpx.Response) -> dict[str, str]:
    return {one["type"]: one["status"] for one in told(answer)["status"].get("conditions") or ()}


async def undefine(cluster: Cluster) -> None:
    """Until the definition has gone, which takes its objects first."""
    ended = told(await cluster.http.delete(f"{DEFINITIONS}/{NAME}"))
    query = {"fieldSelector": f"metadata.name={NAME}", "resourceVersion": ended["metadata"]["resourceVersion"]}
    async with watched(cluster, DEFINITIONS, int(SOON_S), **query) as events:
        async for event in events:
            if event["type"] == "DELETED":
                return
    raise AssertionError("the definition is still there")


@pytest_asyncio.fixture(loop_scope="session")
async def boats(namespace: Namespace) -> AsyncIterator[Namespace]:
    try:
        await define(namespace)
        yield namespace
    finally:
        await undefine(namespace.cluster)


def a_boat(name: str = "pearl", **spec: Any) -> Json:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Boat", "metadata": {"name": name}, "spec": spec}


async def test_a_custom_object_is_filled_in_pruned_and_kept(boats: Namespace) -> None:
    made = await boats.create(BOATS, a_boat(sails=3, colour="black", free={"any": {"thing": 1}}))
    assert made["spec"] == {"sails": 3, "kind": "sloop", "free": {"any": {"thing": 1}}}
    assert made["metadata"]["generation"] == 1
    strict = await boats.post(BOATS, a_boat("other", sails=1, colour="black"), fieldValidation="Strict")
    assert 'unknown field "spec.colour"' in refused(strict, 400, "BadRequest")["message"]


async def test_a_schema_is_kept_to(boats: Namespace) -> None:
    refusal = refused(await boats.post(BOATS, a_boat(sails="three", kind="raft")), 422, "Invalid")
    causes = {cause["field"]: (cause["reason"], cause["message"]) for cause in refusal["details"]["causes"]}
    assert refusal["message"].startswith(f'Boat.{GROUP} "pearl" is invalid: [')
    assert causes["spec.sails"][0] == "FieldValueTypeInvalid"
    assert 'spec.sails in body must be of type integer: "string"' in causes["spec.sails"][1]
    assert causes["spec.kind"] == (
        "FieldValueNotSupported",
        'Unsupported value: "raft": supported values: "sloop", "ketch"',
    )
    refusal = refused(await boats.post(BOATS, a_boat()), 422, "Invalid")
    assert refusal["details"]["causes"][0] == {
        "reason": "FieldValueRequired",
        "message": "Required value",
        "field": "spec.sails",
    }


async def test_its_status_is_a_subresource(boats: Namespace) -> None:
    made = await boats.create(BOATS, {**a_boat(sails=2), "status": {"speed": 9}})
    assert "status" not in made
    told(await boats.put(BOATS, "pearl/status", {**made, "status": {"speed": 7}, "spec": {"sails": 5}}))
    seen = await boats.get(BOATS, "pearl")
    assert (seen["spec"]["sails"], seen["status"], seen["metadata"]["generation"]) == (2, {"speed": 7}, 1)


async def test_an_update_names_its_version(boats: Namespace) -> None:
    await boats.create(BOATS, a_boat(sails=2))
    refusal = refused(await boats.put(BOATS, "pearl", a_boat(sails=3)), 422, "Invalid")
    (cause,) = refusal["details"]["causes"]
    assert cause["field"] == "metadata.resourceVersion"
    assert cause["message"].endswith("must be specified for an update")
    answer = await boats.patch(BOATS, "pearl", {"spec": {"sails": 3}}, "strategic-merge")
    refused(answer, 415, "UnsupportedMediaType")
    assert told(await boats.patch(BOATS, "pearl", {"spec": {"sails": 3}}))["metadata"]["generation"] == 2


async def test_it_is_discovered_and_printed(boats: Namespace) -> None:
    http = boats.cluster.http
    resources = told(await http.get(f"/apis/{GROUP}/v1"))["resources"]
    assert [one["name"] for one in resources] == ["boats", "boats/status"]
    await boats.create(BOATS, a_boat(sails=4))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = told(await http.get(boats.path(BOATS), headers=accept))
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Sails"]
    assert table["rows"][0]["cells"] == ["pearl", 4]


async def test_a_definition_that_goes_takes_its_kind_with_it(namespace: Namespace) -> None:
    http = namespace.cluster.http
    async with contextlib.AsyncExitStack() as left:
        left.push_async_callback(http.delete, f"{DEFINITIONS}/{NAME}")
        await define(namespace)
        await namespace.create(BOATS, a_boat(sails=1))
        await undefine(namespace.cluster)
        gone = await soon(lambda: http.get(namespace.path(BOATS)), lambda answer: answer.status_code == 404)
        assert gone.text == "404 page not found\n"
        await define(namespace)
        assert (await namespace.get(BOATS))["items"] == []
        await undefine(namespace.cluster)


async def test_a_definition_is_checked_itself(cluster: Cluster) -> None:
    wrong = a_definition()
    wrong["metadata"]["name"] = f"ships.{GROUP}"
    refusal = refused(await cluster.http.post(DEFINITIONS, json=wrong), 422, "Invalid")
    assert 'must be spec.names.plural+"."+spec.group' in refusal["message"]
    wrong = a_definition(type="string")
    refusal = refused(await cluster.http.post(DEFINITIONS, json=wrong), 422, "Invalid")
    assert 'Invalid value: "string": must be object at the root' in refusal["message"]
