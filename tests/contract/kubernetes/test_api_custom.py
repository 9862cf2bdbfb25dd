"""CustomResourceDefinitions: what they define is served at once, checked against its schema, and goes with them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.contract.kubernetes.requests import Json, Namespace, refused, told
from tests.contract.kubernetes_rig import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
BOATS = "boats.sea.example.com/v1"


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
        "metadata": {"name": "boats.sea.example.com"},
        "spec": {
            "group": "sea.example.com",
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


async def undefine(cluster: Cluster) -> None:
    """Until the definition has gone, which takes its objects first."""
    ended = told(await cluster.http.delete(f"{DEFINITIONS}/boats.sea.example.com"))
    query = {"watch": "1", "timeoutSeconds": "5", "resourceVersion": ended["metadata"]["resourceVersion"]}
    async with cluster.http.stream("GET", DEFINITIONS, params=query) as answer:
        async for line in answer.aiter_lines():
            if json.loads(line)["type"] == "DELETED":
                return
    raise AssertionError("the definition is still there")


@pytest_asyncio.fixture(loop_scope="session")
async def boats(cluster: Cluster, namespace: Namespace) -> AsyncIterator[Namespace]:
    made = told(await cluster.http.post(DEFINITIONS, json=a_definition()), 201)
    conditions = {one["type"]: one["status"] for one in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    yield namespace
    await undefine(cluster)


def a_boat(name: str = "pearl", **spec: Any) -> Json:
    return {"apiVersion": "sea.example.com/v1", "kind": "Boat", "metadata": {"name": name}, "spec": spec}


async def test_a_custom_object_is_filled_in_pruned_and_kept(boats: Namespace) -> None:
    made = await boats.create(BOATS, a_boat(sails=3, colour="black", free={"any": {"thing": 1}}))
    assert made["spec"] == {"sails": 3, "kind": "sloop", "free": {"any": {"thing": 1}}}
    assert made["metadata"]["generation"] == 1
    strict = await boats.post(BOATS, a_boat("other", sails=1, colour="black"), fieldValidation="Strict")
    assert 'unknown field "spec.colour"' in refused(strict, 400, "BadRequest")["message"]


async def test_a_schema_is_kept_to(boats: Namespace) -> None:
    refusal = refused(await boats.post(BOATS, a_boat(sails="three", kind="raft")), 422, "Invalid")
    causes = {cause["field"]: (cause["reason"], cause["message"]) for cause in refusal["details"]["causes"]}
    assert refusal["message"].startswith('Boat.sea.example.com "pearl" is invalid: [')
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
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in refusal["message"]
    answer = await boats.patch(BOATS, "pearl", {"spec": {"sails": 3}}, "strategic-merge")
    refused(answer, 415, "UnsupportedMediaType")
    assert told(await boats.patch(BOATS, "pearl", {"spec": {"sails": 3}}))["metadata"]["generation"] == 2


async def test_it_is_discovered_and_printed(boats: Namespace) -> None:
    http = boats.cluster.http
    resources = told(await http.get("/apis/sea.example.com/v1"))["resources"]
    assert [one["name"] for one in resources] == ["boats", "boats/status"]
    await boats.create(BOATS, a_boat(sails=4))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = told(await http.get(boats.path(BOATS), headers=accept))
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Sails"]
    assert table["rows"][0]["cells"] == ["pearl", 4]


async def test_a_definition_that_goes_takes_its_kind_with_it(cluster: Cluster, namespace: Namespace) -> None:
    told(await cluster.http.post(DEFINITIONS, json=a_definition()), 201)
    await namespace.create(BOATS, a_boat(sails=1))
    await undefine(cluster)
    gone = await cluster.http.get(namespace.path(BOATS))
    assert (gone.status_code, gone.text) == (404, "404 page not found\n")
    told(await cluster.http.post(DEFINITIONS, json=a_definition()), 201)
    assert (await namespace.get(BOATS))["items"] == []
    await undefine(cluster)


async def test_a_definition_is_checked_itself(cluster: Cluster) -> None:
    wrong = a_definition()
    wrong["metadata"]["name"] = "ships.sea.example.com"
    refusal = refused(await cluster.http.post(DEFINITIONS, json=wrong), 422, "Invalid")
    assert 'must be spec.names.plural+"."+spec.group' in refusal["message"]
    wrong = a_definition(type="string")
    refusal = refused(await cluster.http.post(DEFINITIONS, json=wrong), 422, "Invalid")
    assert 'Invalid value: "string": must be object at the root' in refusal["message"]
