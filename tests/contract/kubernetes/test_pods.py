"""Pods that run: scheduled, started, watched, restarted, ended, as a real node does it."""

import ipaddress

import httpx
import pytest

from tests.contract.kubernetes.namespaces import give_account
from tests.contract.kubernetes.node_rig import (
    LASTING,
    SHELL,
    Node,
    container_of,
    eventually,
    is_ready,
    node,
    phase,
    waiting,
)
from tests.contract.kubernetes.requests import Json, Namespace, refused, soon, told
from tests.contract.kubernetes_rig import AGENT_KEYS, IMAGE, Cluster, emulated

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_pod_runs_on_the_node_and_says_so(node: Node) -> None:
    await node.run("one")
    pod = await node.ready("one")
    status, main = pod["status"], container_of(pod)
    assert pod["spec"]["nodeName"] in await node.cluster.ready_nodes()
    assert (status["phase"], main["ready"], main["started"], main["restartCount"]) == ("Running", True, True, 0)
    assert ipaddress.ip_address(status["podIP"]).is_private
    assert status["qosClass"] == "BestEffort"
    assert {one["type"]: one["status"] for one in status["conditions"]} == dict.fromkeys(
        ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"), "True"
    )
    await node.event("one", "Started")
    reasons = {reason for reason, _ in await node.events("one")}
    assert reasons >= {"Scheduled", "Pulled", "Created", "Started"}
    if node.cluster.is_emulated:  # elsewhere the node may have the image
        assert main["image"] == "docker.io/library/busybox:latest"
        assert "Pulling" in reasons
    await node.delete("one")


async def test_an_agent_is_ready_once_its_probe_says_so_and_reached_through_the_proxy(node: Node) -> None:
    env = [{"name": "WORKSPACE_ID", "value": "w"}, {"name": "ONMEMOS_TICKET_KEYS", "value": AGENT_KEYS}]
    probe = {"httpGet": {"path": "/health", "port": "http"}}
    container = {"name": "agent", "image": IMAGE or "onmemos/agent", "env": env, "readinessProbe": probe}
    container["ports"] = [{"name": "http", "containerPort": 8080}]
    await node.start("agent", containers=[container])
    await node.ready("agent")
    answer = await node.cluster.http.get(f"{node.namespace.path('pods', 'agent:8080')}/proxy/health")
    assert told(answer)["status"] == "ok"
    await node.delete("agent", gracePeriodSeconds=1)


@pytest.mark.parametrize(("code", "ends_as"), [(0, "Succeeded"), (3, "Failed")])
async def test_a_pod_that_is_not_restarted_ends_with_its_container(node: Node, code: int, ends_as: str) -> None:
    await node.run("job", f"echo done; exit {code}", restartPolicy="Never")
    pod = await node.ended("job")
    terminated = container_of(pod)["state"]["terminated"]
    assert (pod["status"]["phase"], terminated["exitCode"]) == (ends_as, code)
    assert terminated["reason"] == ("Completed" if code == 0 else "Error")
    assert await node.log("job") == "done\n"


async def test_a_crashing_container_is_restarted_and_then_less_often(node: Node) -> None:
    await node.run("crash", "echo life; exit 2")
    pod = await node.until("crash", lambda pod: waiting(pod).get("reason") == "CrashLoopBackOff")
    main = container_of(pod)
    assert main["restartCount"] == 1
    assert main["lastState"]["terminated"]["exitCode"] == 2
    named = f"pod=crash_{node.namespace.name}({pod['metadata']['uid']})"
    assert waiting(pod)["message"] == f"back-off 10s restarting failed container=main {named}"
    assert pod["status"]["phase"] == "Running"
    assert await node.log("crash", previous="true") == "life\n"
    await node.delete("crash")


async def test_on_failure_success_is_the_end(node: Node) -> None:
    script = "[ -e /keep/x ] && exit 0; touch /keep/x; exit 1"
    mounts = {"volumeMounts": [{"name": "keep", "mountPath": "/keep"}]}
    volumes = [{"name": "keep", "emptyDir": {}}]
    await node.run("retry", script, restartPolicy="OnFailure", container=mounts, volumes=volumes)
    pod = await node.ended("retry")
    assert (pod["status"]["phase"], container_of(pod)["restartCount"]) == ("Succeeded", 1)


NO_REGISTRY = emulated("no registry is asked for images that are not there")


@pytest.mark.parametrize(
    ("image", "reason", "words"),
    [
        pytest.param("x:missing", "ErrImagePull", "docker.io/library/x:missing: not found", marks=NO_REGISTRY),
        pytest.param("invalid.local/x", "ErrImagePull", "lookup invalid.local: no such host", marks=NO_REGISTRY),
        ("UPPER", "InvalidImageName", "repository name must be lowercase"),
    ],
)
async def test_an_image_that_is_not_there_is_told(node: Node, image: str, reason: str, words: str) -> None:
    name = reason.lower() + str(len(image))
    await node.run(name, container={"image": image})
    pod = await node.until(name, lambda pod: waiting(pod).get("reason") == reason)
    assert words in waiting(pod)["message"]
    assert pod["status"]["phase"] == "Pending"
    await node.delete(name)


@NO_REGISTRY
async def test_what_is_not_pulled_is_tried_less_often(node: Node) -> None:
    await node.run("pull", container={"image": "x:missing"})
    pod = await node.until("pull", lambda pod: waiting(pod).get("reason") == "ImagePullBackOff")
    assert waiting(pod)["message"].startswith('Back-off pulling image "x:missing": ErrImagePull: ')
    await node.delete("pull")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"container": {"resources": {"requests": {"cpu": "900"}}}},
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: "
            "1 No preemption victims found for incoming pod.",
        ),
        (
            {"nodeSelector": {"gpu": "yes"}},
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are "
            "available: 1 Preemption is not helpful for scheduling.",
        ),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "none"}}]},
            '0/1 nodes are available: persistentvolumeclaim "none" not found. preemption: 0/1 nodes are available: '
            "1 Preemption is not helpful for scheduling.",
        ),
    ],
)
async def test_a_pod_that_fits_nowhere_says_why(node: Node, spec: Json, message: str) -> None:
    await node.run("big", **spec)
    pod = await node.until("big", lambda pod: (pod.get("status") or {}).get("conditions"))
    condition = pod["status"]["conditions"][0]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert await node.event("big", "FailedScheduling") == condition["message"]
    if node.cluster.is_emulated:  # elsewhere there are more nodes
        assert condition["message"] == message
    await node.delete("big")


@emulated("its node gets a label")
async def test_what_waits_for_room_is_scheduled_when_there_is(node: Node) -> None:
    labels = {"metadata": {"labels": {"room": node.namespace.name}}}
    await node.run("later", nodeSelector={"room": node.namespace.name})
    await node.event("later", "FailedScheduling")
    patch = {"Content-Type": "application/merge-patch+json"}
    told(await node.cluster.http.patch("/api/v1/nodes/onmemos-local", json=labels, headers=patch))
    await node.ready("later")
    await node.delete("later")


async def test_deletion_gives_time(node: Node) -> None:
    share = node.folder / "filestore/10.0.0.9" / node.namespace.name
    script = "trap 'echo bye > /data/said; exit 0' TERM; touch /data/up; while :; do sleep 0.05; done"
    volumes = [{"name": "share", "nfs": {"server": "10.0.0.9", "path": f"/{node.namespace.name}"}}]
    mounts = {"volumeMounts": [{"name": "share", "mountPath": "/data"}]}
    await node.run("kind", script, container=mounts, volumes=volumes)
    await eventually((share / "up").exists)
    await node.delete("kind", gracePeriodSeconds=10)
    assert (share / "said").read_text() == "bye\n"


async def test_deletion_takes_the_time_when_it_is_over(node: Node) -> None:
    await node.run("deaf", "trap '' TERM; while :; do sleep 0.05; done")
    await node.ready("deaf")
    await node.delete("deaf", gracePeriodSeconds=1)


async def test_a_deadline_ends_a_pod(node: Node) -> None:
    await node.run("slow", activeDeadlineSeconds=1)
    pod = await node.ended("slow")
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")


async def test_a_failing_liveness_probe_restarts_and_a_command_may_be_one(node: Node) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    await node.run("sick", container={"livenessProbe": probe})
    pod = await node.until("sick", lambda pod: container_of(pod).get("restartCount", 0) >= 1)
    assert container_of(pod)["lastState"]["terminated"]["exitCode"] == 0
    assert (await node.event("sick", "Unhealthy")).startswith("Liveness probe failed")
    await node.delete("sick", gracePeriodSeconds=0)


async def test_ready_is_what_listens(node: Node) -> None:
    script = "while [ ! -e /tmp/go ]; do sleep 0.02; done; exec python3 -m http.server 8000"
    probe = {"httpGet": {"port": 8000}, "periodSeconds": 1}
    await node.run("web", script, container={"readinessProbe": probe})
    pod = await node.until("web", lambda pod: "running" in container_of(pod).get("state", {}))
    assert not is_ready(pod)
    unready = next(one for one in pod["status"]["conditions"] if one["type"] == "Ready")
    assert (unready["reason"], unready["message"]) == (
        "ContainersNotReady",
        "containers with unready status: [main]",
    )
    await node.delete("web", gracePeriodSeconds=0)


async def test_init_containers_run_in_order_and_before(node: Node) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    mounts = [{"name": "v", "mountPath": "/v"}]
    inits = [
        {"name": n, "image": SHELL, "command": ["sh", "-c", f"echo {n} >> /v/order"], "volumeMounts": mounts}
        for n in ("first", "second")
    ]
    spec: Json = {"initContainers": inits, "volumes": volumes, "restartPolicy": "Never"}
    await node.run("init", "cat /v/order", container={"volumeMounts": mounts}, **spec)
    pod = await node.ended("init")
    assert await node.log("init", container="main") == "first\nsecond\n"
    assert [one["ready"] for one in pod["status"]["initContainerStatuses"]] == [True, True]
    inits[0]["command"] = ["sh", "-c", "exit 5"]
    await node.run("broken", **spec)
    pod = await node.ended("broken")
    assert phase(pod) == "Failed"
    assert waiting(pod) == {"reason": "PodInitializing"}


async def test_a_namespace_goes_with_all_that_is_in_it(node: Node) -> None:
    await node.run("one")
    await node.ready("one")
    await node.namespace.create("secrets", {"metadata": {"name": "s"}})
    http, path = node.cluster.http, f"/api/v1/namespaces/{node.namespace.name}"
    body = told(await http.delete(path))
    assert body["status"]["phase"] == "Terminating"
    refused(await node.namespace.post("secrets", {"metadata": {"name": "late"}}), 403, "Forbidden")
    await soon(lambda: http.get(path), lambda answer: answer.status_code == httpx.codes.NOT_FOUND)
    assert (await http.get(node.namespace.path("pods", "one"))).status_code == 404


async def test_what_an_owner_had_goes_with_it(node: Node) -> None:
    owner = await node.namespace.create("configmaps", {"metadata": {"name": "owner"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    await node.run("owned")
    told(await node.namespace.patch("pods", "owned", {"metadata": {"ownerReferences": [reference]}}))
    await node.ready("owned")
    told(await node.namespace.delete("configmaps", "owner"))
    await node.until("owned", lambda pod: not pod)


@emulated("it is restarted")
async def test_running_pods_are_back_after_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("restart")

    async def with_pods(cluster: Cluster) -> Node:
        return Node(cluster, folder, Namespace(cluster, "default"))

    async with node(folder) as cluster:
        pods = await with_pods(cluster)
        await give_account(pods.namespace)
        await pods.run("lasting", "echo kept >> /v/file; " + LASTING,
                       container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                       volumes=[{"name": "v", "emptyDir": {}}])  # fmt: skip
        first = await pods.ready("lasting")
        await pods.run("over", "true", restartPolicy="Never")
        await pods.ended("over")
    async with node(folder) as cluster:
        pods = await with_pods(cluster)
        again = await pods.until("lasting", lambda p: is_ready(p) and container_of(p)["restartCount"] == 1)
        assert again["metadata"]["uid"] == first["metadata"]["uid"]
        assert again["status"]["podIP"] == first["status"]["podIP"]
        assert container_of(again)["lastState"]["terminated"]["exitCode"] == 255
        kept = folder / "scratch" / first["metadata"]["uid"] / "v" / "file"
        await eventually(lambda: kept.read_text() == "kept\nkept\n")
        over = await pods.namespace.get("pods", "over")
        assert phase(over) == "Succeeded"
        left = folder / "sandboxes" / f"pod-{over['metadata']['uid'].replace('-', '')[:12]}"
        assert left.exists()
        await pods.delete("over")
        await eventually(lambda: not left.exists())
