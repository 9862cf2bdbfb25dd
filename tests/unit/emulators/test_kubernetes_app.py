"""The API server over ASGI alone: forms of answers, requests that break off, bounds of what may be asked."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml

from infra.emulators.kubernetes import Kubernetes
from infra.emulators.kubernetes.kinds import CONFIG_MAPS, PODS
from infra.emulators.kubernetes.log_options import log_option_errors
from infra.emulators.kubernetes.statuses import Invalid

TOKEN = "t"
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Kubernetes]:
    async with Kubernetes(tmp_path / "objects.sqlite", token=TOKEN) as opened:
        yield opened


@pytest_asyncio.fixture
async def client(cluster: Kubernetes) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(cluster.app)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as opened:
        yield opened


async def test_whoever_wants_yaml_gets_yaml(client: httpx.AsyncClient) -> None:
    form = {"Accept": "application/yaml"}
    made = await client.post(MAPS, json={"metadata": {"name": "a"}, "data": {"k": "v"}}, headers=form)
    answers = [made, await client.get(f"{MAPS}/a", headers=form), await client.get(MAPS, headers=form)]
    answers.append(await client.get("/api/v1/namespaces/default/status", headers=form))
    answers.append(await client.delete(f"{MAPS}/a", headers=form))
    for answer in answers:
        assert answer.headers["content-type"] == "application/yaml"
        assert yaml.safe_load(answer.text)["apiVersion"] == "v1"
        assert not answer.text.startswith("{")


async def test_a_deletion_that_breaks_off_deletes_nothing(cluster: Kubernetes) -> None:
    await cluster.objects.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "default"}})
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"preconditions": {', "more_body": True},
        {"type": "http.disconnect"},
    ]
    said: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "DELETE", "path": f"{MAPS}/a", "query_string": b"", "headers": headers}
    await cluster.app(scope, receive, send)
    assert said[0]["status"] == 400
    assert cluster.objects.get(CONFIG_MAPS, "default", "a")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"tailLines": "-1"}, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"limitBytes": "0"}, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"limitBytes": "-5"}, "limitBytes: Invalid value: -5: must be greater than 0"),
        ({"sinceSeconds": "0"}, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        (
            {"sinceSeconds": "1", "sinceTime": "2026-01-01T00:00:00Z"},
            "<nil>: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
    ],
)
def test_a_log_is_asked_for_within_bounds(query: dict[str, str], message: str) -> None:
    faults = list(log_option_errors(query))
    told = Invalid(PODS, "p", faults).body()["message"]
    assert told == f'Pod "p" is invalid: {message}'


async def test_a_token_lasts_so_long_and_no_longer(client: httpx.AsyncClient) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await client.post(accounts, json={"metadata": {"name": "a"}})
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 1 << 40}}
    answer = await client.post(f"{accounts}/a/token", json=body)
    assert answer.status_code == 422
    assert "may not specify a duration larger than 2^32 seconds" in answer.json()["message"]


async def test_a_quantity_has_an_end(client: httpx.AsyncClient) -> None:
    quotas = "/api/v1/namespaces/default/resourcequotas"
    answer = await client.post(quotas, json={"metadata": {"name": "a"}, "spec": {"hard": {"pods": "1" * 100}}})
    assert answer.status_code == 400
    assert "quantities must match the regular expression" in answer.json()["message"]


async def test_an_affinity_says_what_it_compares(client: httpx.AsyncClient) -> None:
    terms = [{"matchExpressions": [{"key": "a", "operator": "Gt"}, {"operator": "Near"}]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    await client.post("/api/v1/namespaces/default/serviceaccounts", json={"metadata": {"name": "default"}})
    spec = {"containers": [{"name": "c", "image": "busybox"}], "affinity": affinity}
    answer = await client.post("/api/v1/namespaces/default/pods", json={"metadata": {"name": "p"}, "spec": spec})
    assert answer.status_code == 422
    where = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
    fields = {cause["field"].removeprefix(f"{where}.") for cause in answer.json()["details"]["causes"]}
    assert fields == {
        "matchExpressions[0].values",
        "matchExpressions[1].operator",
        "matchExpressions[1].key",
    }


async def test_a_bound_is_told_as_it_was_written(client: httpx.AsyncClient) -> None:
    await client.post("/api/v1/namespaces/default/serviceaccounts", json={"metadata": {"name": "default"}})
    bound = {"type": "Container", "max": {"memory": "1Gi"}}
    await client.post(
        "/api/v1/namespaces/default/limitranges", json={"metadata": {"name": "l"}, "spec": {"limits": [bound]}}
    )
    container = {"name": "c", "image": "busybox", "resources": {"limits": {"memory": "2Gi"}}}
    answer = await client.post(
        "/api/v1/namespaces/default/pods", json={"metadata": {"name": "p"}, "spec": {"containers": [container]}}
    )
    assert answer.status_code == 403
    assert "maximum memory usage per Container is 1Gi, but limit is 2Gi" in answer.json()["message"]
