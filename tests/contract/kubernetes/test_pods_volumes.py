"""What a Pod is given: variables, files, volumes that outlive it, and a network or none."""

from pathlib import Path

import pytest

from tests.contract.kubernetes.node_rig import Node, container_of, eventually, phase, waiting
from tests.contract.kubernetes.requests import Json, soon, told
from tests.contract.kubernetes_rig import emulated

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def config(node: Node) -> None:
    secret = {"metadata": {"name": "sec"}, "stringData": {"user": "ann", "file.txt": "hidden"}}
    await node.namespace.create("secrets", secret)
    await node.namespace.create("configmaps", {"metadata": {"name": "cm"}, "data": {"LEVEL": "low", "conf": "x=1"}})


async def test_variables_come_from_everywhere(node: Node) -> None:
    await config(node)
    env: list[Json] = [
        {"name": "PLAIN", "value": "1"},
        {"name": "BOTH", "value": "$(PLAIN)-$(C_LEVEL)-$$(PLAIN)-$(NONE)"},
        {"name": "USER_NAME", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "user"}}},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "TIER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]
    container = {
        "env": env,
        "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "C_"}],
        "resources": {"limits": {"memory": "96Mi", "cpu": "500m"}},
    }
    names = "$PLAIN $BOTH $USER_NAME ${MAYBE-unset} $POD ${TIER:-none} $MEMORY $HOSTNAME $KUBERNETES_SERVICE_PORT"
    await node.run("env", f'echo "{names}"; hostname', container=container, restartPolicy="Never")
    await node.ended("env")
    assert await node.log("env") == "1 1-low-$(PLAIN)-$(NONE) ann unset env none 96 env 443\nenv\n"


async def test_a_container_waits_for_what_its_variables_name(node: Node) -> None:
    reference = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "later", "key": "x"}}}
    await node.run("waits", container={"env": [reference]})
    pod = await node.until("waits", lambda pod: waiting(pod).get("reason") == "CreateContainerConfigError")
    assert waiting(pod)["message"] == 'secret "later" not found'
    assert await node.event("waits", "Failed") == 'Error: secret "later" not found'
    await node.namespace.create("secrets", {"metadata": {"name": "later"}, "stringData": {"x": "1"}})
    await node.ready("waits")
    await node.delete("waits", gracePeriodSeconds=0)


async def test_files_of_secrets_and_maps_are_mounted_and_not_written(node: Node) -> None:
    await config(node)
    volumes: list[Json] = [
        {"name": "sec", "secret": {"secretName": "sec", "items": [{"key": "file.txt", "path": "in/there"}]}},
        {"name": "cm", "configMap": {"name": "cm"}},
        {"name": "down", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    mounts = [
        {"name": "sec", "mountPath": "/sec"},
        {"name": "cm", "mountPath": "/etc/config"},
        {"name": "cm", "mountPath": "/etc/one.conf", "subPath": "conf"},
        {"name": "down", "mountPath": "/run/pod"},
    ]
    script = "cat /sec/in/there /etc/config/LEVEL /etc/one.conf /run/pod/name; echo x > /etc/config/LEVEL || echo no"
    await node.run("files", script, container={"volumeMounts": mounts}, volumes=volumes, restartPolicy="Never")
    await node.ended("files")
    said = await node.log("files", stream="Stdout")
    assert said == "hiddenlowx=1filesno\n"


async def test_files_follow_their_map(node: Node) -> None:
    await config(node)
    script = "until [ $(cat /etc/config/LEVEL) = high ]; do sleep 0.02; done"
    volumes = [{"name": "cm", "configMap": {"name": "cm"}}]
    container = {"volumeMounts": [{"name": "cm", "mountPath": "/etc/config"}]}
    await node.run("follows", script, container=container, volumes=volumes, restartPolicy="Never")
    await node.ready("follows")
    told(await node.namespace.patch("configmaps", "cm", {"data": {"LEVEL": "high"}}))
    assert phase(await node.ended("follows")) == "Succeeded"


async def test_the_token_of_its_service_account_lets_a_pod_in(node: Node) -> None:
    await node.run("token", "cat /var/run/secrets/kubernetes.io/serviceaccount/token", restartPolicy="Never")
    await node.ended("token")
    token = await node.log("token")
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = await node.cluster.anonymous.post(path, json={}, headers={"Authorization": f"Bearer {token}"})
    username = told(answer, 201)["status"]["userInfo"]["username"]
    assert username == f"system:serviceaccount:{node.namespace.name}:default"


async def test_a_claims_files_outlive_pods_and_go_with_the_claim(node: Node) -> None:
    classes = told(await node.cluster.http.get("/apis/storage.k8s.io/v1/storageclasses"))["items"]
    mark = "storageclass.kubernetes.io/is-default-class"
    if not any((one["metadata"].get("annotations") or {}).get(mark) == "true" for one in classes):
        pytest.skip("the cluster has no default storage class")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = await node.namespace.create("persistentvolumeclaims", {"metadata": {"name": "disk"}, "spec": claim})
    assert made["status"]["phase"] == "Pending"
    volumes = [{"name": "work", "persistentVolumeClaim": {"claimName": "disk"}}]
    container = {"volumeMounts": [{"name": "work", "mountPath": "/workspace"}], "workingDir": "/workspace"}
    for name, said in (("first", "1"), ("second", "1\n2")):
        script = f"echo {said[-1]} >> file; cat file; pwd"
        await node.run(name, script, container=container, volumes=volumes, restartPolicy="Never")
        await node.ended(name)
        assert await node.log(name) == f"{said}\n/workspace\n"
        await node.delete(name)
    bound = await node.namespace.get("persistentvolumeclaims", "disk")
    assert (bound["status"]["phase"], bound["status"]["capacity"]) == ("Bound", {"storage": "1Gi"})
    folder = None
    if node.cluster.is_emulated:
        folder = node.folder / "kubernetes.node/volumes" / bound["spec"]["volumeName"]
        assert (folder / "file").exists()
    await node.run("user", container=container, volumes=volumes)
    await node.ready("user")
    told(await node.namespace.delete("persistentvolumeclaims", "disk"))
    held = await node.namespace.get("persistentvolumeclaims", "disk")
    assert held["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    await node.delete("user", gracePeriodSeconds=0)
    if folder is not None:
        await eventually(lambda: not folder.exists())
    path = node.namespace.path("persistentvolumeclaims", "disk")
    await soon(lambda: node.cluster.http.get(path), lambda answer: answer.status_code == 404)


def a_bucket(node: Node, name: str) -> Path:
    folder = node.folder / "buckets" / name
    folder.mkdir(parents=True)
    return folder


async def test_a_bucket_is_a_folder(node: Node) -> None:
    bucket = a_bucket(node, f"{node.namespace.name}-b")
    attributes = {"bucketName": bucket.name, "mountOptions": "implicit-dirs,only-dir=a/b"}
    volumes = [{"name": "b", "csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}]
    container = {"volumeMounts": [{"name": "b", "mountPath": "/data"}]}
    await node.run("bucket", "echo object > /data/o", container=container, volumes=volumes, restartPolicy="Never")
    await node.ended("bucket")
    assert (bucket / "a/b/o").read_text() == "object\n"


@emulated("it has Cloud Storage FUSE")
async def test_a_bucket_that_is_not_there_is_waited_for(node: Node) -> None:
    name = f"{node.namespace.name}-later"
    source = {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": {"bucketName": name}}
    container = {"volumeMounts": [{"name": "b", "mountPath": "/data"}]}
    await node.run("mount", container=container, volumes=[{"name": "b", "csi": source}])
    assert f'failed to get GCS bucket "{name}"' in await node.event("mount", "FailedMount")
    pod = await node.namespace.get("pods", "mount")
    assert waiting(pod)["reason"] == "ContainerCreating"
    a_bucket(node, name)
    await node.ready("mount")
    await node.delete("mount", gracePeriodSeconds=0)


@emulated("it runs Pods on this machine")
async def test_no_link_leads_out_of_a_volume(node: Node) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    mounts = [{"name": "v", "mountPath": "/v"}]
    inits = [{"name": "link", "image": "busybox", "command": ["ln", "-s", "/etc", "/v/out"], "volumeMounts": mounts}]
    outside = {"volumeMounts": [{"name": "v", "mountPath": "/data", "subPath": "out"}]}
    await node.run("links", container=outside, volumes=volumes, initContainers=inits)
    pod = await node.until("links", lambda pod: waiting(pod).get("reason") == "CreateContainerConfigError")
    assert "leads out of the volume" in waiting(pod)["message"]
    await node.delete("links")


@emulated("it runs Pods on this machine")
async def test_a_sandbox_that_cannot_be_started_says_why(node: Node) -> None:
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/usr"}]}
    await node.run("odd", container=mounts, volumes=[{"name": "v", "emptyDir": {}}])
    pod = await node.until("odd", lambda pod: waiting(pod).get("reason") == "RunContainerError")
    assert "that folder is the system's" in waiting(pod)["message"]
    assert container_of(pod)["restartCount"] == 0
    await node.delete("odd")
