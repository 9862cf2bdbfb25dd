"""What the server adds to Pods and what it does not let in: service accounts, quotas, limits, Pod Security."""

from typing import Any

import pytest

from tests.contract.kubernetes.namespaces import Namespaces
from tests.contract.kubernetes.requests import Json, Namespace, a_pod, refused, soon, told

pytestmark = pytest.mark.asyncio(loop_scope="session")


def asking(name: str, cpu: str, memory: str = "64Mi") -> Json:
    resources = {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}
    return a_pod(name, containers=[{"name": "main", "image": "python:3.12", "resources": resources}])


def hardened(**container: Any) -> Json:
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return a_pod(containers=[{"name": "main", "image": "python:3.12", "securityContext": {**context, **container}}])


async def test_a_pod_is_filled_in(namespace: Namespace) -> None:
    body = asking("pod", "500m")
    del body["spec"]["schedulerName"]
    pod = await namespace.create("pods", body, dryRun="All")
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["terminationGracePeriodSeconds"]) == (
        "Always",
        "ClusterFirst",
        30,
    )
    assert (spec["serviceAccountName"], spec["schedulerName"], spec["priority"]) == ("default", "default-scheduler", 0)
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["terminationMessagePath"] == "/dev/termination-log"
    assert container["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    tolerated = {one["key"] for one in spec["tolerations"]}
    assert tolerated >= {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert pod["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}
    assert pod["metadata"]["generation"] == 1


async def test_a_pod_that_wants_no_token_gets_none(namespace: Namespace) -> None:
    pod = await namespace.create("pods", a_pod(automountServiceAccountToken=False))
    assert "volumes" not in pod["spec"]
    assert "volumeMounts" not in pod["spec"]["containers"][0]


@pytest.mark.parametrize("account", ["default", "robot"])
async def test_a_namespace_takes_no_pods_of_an_account_that_is_not_there(namespaces: Namespaces, account: str) -> None:
    fresh = await namespaces.new(account=False)
    if account == "default" and await fresh.cluster.has_controllers():
        pytest.skip("the cluster's controllers make that account at once")
    refusal = refused(await fresh.post("pods", a_pod(serviceAccountName=account)), 403, "Forbidden")
    looking = f"error looking up service account {fresh.name}/{account}"
    assert refusal["message"] == f'pods "pod" is forbidden: {looking}: serviceaccount "{account}" not found'
    await fresh.create("serviceaccounts", {"metadata": {"name": account}})
    pod = await soon(
        lambda: fresh.post("pods", a_pod(serviceAccountName=account)), lambda answer: answer.status_code == 201
    )
    assert told(pod, 201)["spec"]["serviceAccountName"] == account


async def test_what_a_pod_refers_to_exists(namespace: Namespace) -> None:
    refusal = refused(await namespace.post("pods", a_pod(runtimeClassName="none")), 403, "Forbidden")
    assert refusal["message"] == 'pods "pod" is forbidden: pod rejected: RuntimeClass "none" not found'
    refusal = refused(await namespace.post("pods", a_pod(priorityClassName="none")), 403, "Forbidden")
    assert refusal["message"] == 'pods "pod" is forbidden: no PriorityClass with name none was found'


async def counted(namespace: Namespace, name: str, **used: str) -> None:
    """What a controller does, where there is none: the quota's status, which is what the server goes by."""
    if namespace.cluster.is_emulated or await namespace.cluster.has_controllers():
        return
    quota = await namespace.get("resourcequotas", name)
    counts = {key: used.get(key.replace(".", "_"), "0") for key in quota["spec"]["hard"]}
    status = {"hard": quota["spec"]["hard"], "used": counts}
    told(await namespace.put("resourcequotas", f"{name}/status", {**quota, "status": status}))


async def test_a_quota_is_a_limit_and_tells_what_is_used(namespace: Namespace) -> None:
    quota = {
        "metadata": {"name": "compute"},
        "spec": {"hard": {"pods": "2", "requests.cpu": "1", "limits.memory": "1Gi"}},
    }
    await namespace.create("resourcequotas", quota)
    await counted(namespace, "compute")
    await soon(lambda: namespace.post("pods", asking("z", "2"), dryRun="All"), lambda answer: answer.status_code == 403)
    await namespace.create("pods", asking("a", "600m"))
    refusal = refused(await namespace.post("pods", asking("b", "600m")), 403, "Forbidden")
    assert refusal["message"] == (
        'pods "b" is forbidden: exceeded quota: compute, requested: requests.cpu=600m, '
        "used: requests.cpu=600m, limited: requests.cpu=1"
    )
    assert refusal["details"] == {"name": "b", "kind": "pods"}
    refusal = refused(await namespace.post("pods", a_pod("c")), 403, "Forbidden")
    assert "failed quota: compute: must specify limits.memory for: main; requests.cpu for: main" in refusal["message"]
    await namespace.create("pods", asking("d", "400m", "128Mi"))
    refusal = refused(await namespace.post("pods", asking("e", "0")), 403, "Forbidden")
    assert "exceeded quota: compute, requested: pods=1, used: pods=2, limited: pods=2" in refusal["message"]
    told(await namespace.delete("pods", "a"))
    await counted(namespace, "compute", pods="1", requests_cpu="400m", limits_memory="128Mi")
    freed = await soon(lambda: namespace.post("pods", asking("f", "600m")), lambda answer: answer.status_code == 201)
    told(freed, 201)


async def test_limits_are_filled_in_and_kept(namespace: Namespace) -> None:
    limit = {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}
    await namespace.create("limitranges", {"metadata": {"name": "limits"}, "spec": {"limits": [limit]}})
    wanted = {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}
    await soon(
        lambda: namespace.create("pods", a_pod(), dryRun="All"),
        lambda pod: pod["spec"]["containers"][0]["resources"] == wanted,
    )
    refusal = refused(await namespace.post("pods", asking("big", "2")), 403, "Forbidden")
    assert "maximum cpu usage per Container is 1, but limit is 2" in refusal["message"]


async def test_a_restricted_namespace_takes_hardened_pods_only(namespaces: Namespaces) -> None:
    namespace = await namespaces.new({"pod-security.kubernetes.io/enforce": "restricted"})
    refusal = refused(await namespace.post("pods", a_pod()), 403, "Forbidden")
    assert refusal["message"] == (
        'pods "pod" is forbidden: violates PodSecurity "restricted:latest": '
        'allowPrivilegeEscalation != false (container "main" must set '
        "securityContext.allowPrivilegeEscalation=false), "
        'unrestricted capabilities (container "main" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "main" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "main" must set securityContext.seccompProfile.type to '
        '"RuntimeDefault" or "Localhost")'
    )
    await namespace.create("pods", hardened())
    refusal = refused(await namespace.post("pods", hardened(runAsUser=0)), 403, "Forbidden")
    assert 'runAsUser=0 (container "main" must not set runAsUser=0)' in refusal["message"]


async def test_a_baseline_namespace_takes_no_privileged_pods(namespaces: Namespaces) -> None:
    namespace = await namespaces.new({"pod-security.kubernetes.io/enforce": "baseline"})
    await namespace.create("pods", a_pod("plain"))
    refusal = refused(await namespace.post("pods", a_pod(hostNetwork=True)), 403, "Forbidden")
    assert 'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)' in refusal["message"]
    refusal = refused(
        await namespace.post("pods", hardened(privileged=True, allowPrivilegeEscalation=True)), 403, "Forbidden"
    )
    assert 'privileged (container "main" must not set securityContext.privileged=true)' in refusal["message"]


async def test_a_service_gets_an_address_of_its_own(namespace: Namespace) -> None:
    services = [
        await namespace.create("services", {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})
        for name in ("a", "b")
    ]
    addresses = {service["spec"]["clusterIP"] for service in services}
    assert len(addresses) == 2
    assert services[0]["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    refusal = refused(await namespace.post("services", {"metadata": {"name": "a.b"}, "spec": {}}), 422, "Invalid")
    assert refusal["details"]["causes"][0]["field"] == "metadata.name"
    assert "label must consist of" in refusal["message"]
