"""What the GKE provider makes of a Pod's status: ready, in trouble that may pass, or failed, in Kubernetes' words."""

from typing import Any

import pytest
from kubernetes.aio.client import CoreV1Event, V1Pod

from shared.providers.base import Condition, Health
from shared.providers.gke_conditions import MOUNT_S, SCALE_UP_S, Outlook, condition, outlook

UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no cpu"}
SCHEDULED = {"type": "PodScheduled", "status": "True"}


def a_pod(**status: Any) -> V1Pod:
    parsed = V1Pod.from_dict({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": status})
    assert parsed is not None
    return parsed


def waiting(reason: str, message: str = "", **more: Any) -> V1Pod:
    container = {
        "name": "agent",
        "image": "i",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
        **more,
    }
    return a_pod(phase="Pending", conditions=[SCHEDULED], containerStatuses=[container])


def event(reason: str, message: str) -> CoreV1Event:
    parsed = CoreV1Event.from_dict(
        {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"}, "reason": reason, "message": message}
    )
    assert parsed is not None
    return parsed


def failed(found: Outlook) -> str:
    assert (found.condition.health, found.patience_s) == (Health.FAILED, 0)
    return found.condition.reason


def test_ready_is_ready() -> None:
    found = a_pod(phase="Running", conditions=[SCHEDULED, {"type": "Ready", "status": "True"}])
    assert condition(found).health is Health.READY


def test_a_pod_that_nobody_looked_at_is_starting_and_nothing_is_wrong() -> None:
    for found in (a_pod(), a_pod(phase="Pending"), waiting("ContainerCreating")):
        assert outlook(found, ()).patience_s is None
        assert condition(found).health is Health.STARTING


def test_a_pod_that_is_being_deleted_is_gone() -> None:
    pod = a_pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    ending = V1Pod.from_dict({**pod.to_dict(), "metadata": {"name": "p", "deletionTimestamp": "2026-11-01T12:00:00Z"}})
    assert ending is not None
    assert condition(ending).health is Health.GONE


@pytest.mark.parametrize(
    "reason", ["InvalidImageName", "ErrImageNeverPull", "ImagePullBackOff", "CrashLoopBackOff", "RunContainerError"]
)
def test_containers_that_cannot_start_fail_with_their_reason(reason: str) -> None:
    assert failed(outlook(waiting(reason, "it said so"), ())) == f"{reason}: it said so"


def test_one_failed_pull_may_be_a_blip_unless_it_says_that_there_is_no_such_image() -> None:
    blip = outlook(waiting("ErrImagePull", "dial tcp: i/o timeout"), ())
    assert blip.condition.health is Health.STARTING
    assert blip.patience_s
    assert "not found" in failed(outlook(waiting("ErrImagePull", "docker.io/x/y:z: not found"), ()))


def test_why_a_pull_backs_off_is_in_the_events() -> None:
    pulls = [event("Failed", 'Failed to pull image "x": manifest unknown'), event("Failed", "Error: ErrImagePull")]
    told = failed(outlook(waiting("ImagePullBackOff", 'Back-off pulling image "x"'), pulls))
    assert told == 'ImagePullBackOff: Failed to pull image "x": manifest unknown'


def test_a_crash_loop_says_how_the_container_ended() -> None:
    ended = {"terminated": {"reason": "Error", "exitCode": 2, "message": "WORKSPACE_ID is None"}}
    told = failed(outlook(waiting("CrashLoopBackOff", "back-off 10s", lastState=ended), ()))
    assert told == "CrashLoopBackOff: back-off 10s; it ended with Error: WORKSPACE_ID is None (exit code 2)"


def test_a_secret_that_has_not_reached_the_node_yet_is_waited_for() -> None:
    found = outlook(waiting("CreateContainerConfigError", 'secret "x" not found'), ())
    assert found.condition.health is Health.STARTING
    assert found.patience_s


def test_no_room_is_given_the_time_that_adding_a_node_takes() -> None:
    found = outlook(a_pod(phase="Pending", conditions=[UNSCHEDULABLE]), ())
    assert found.condition.health is Health.STARTING
    assert found.condition.reason == "Unschedulable: 0/3 nodes: no cpu"
    assert found.patience_s == SCALE_UP_S


def test_no_room_that_no_node_would_make_is_a_failure_at_once() -> None:
    never = event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")
    told = failed(outlook(a_pod(phase="Pending", conditions=[UNSCHEDULABLE]), [never]))
    assert told.endswith("NotTriggerScaleUp: pod didn't trigger scale-up: 1 max node group size reached")


@pytest.mark.parametrize(
    ("message", "patience_s"),
    [
        ("MountVolume.SetUp failed: rpc error: code = NotFound desc = no such bucket", 0),
        ("Multi-Attach error for volume: Volume is already used by pod(s)", MOUNT_S),
    ],
)
def test_a_volume_that_cannot_be_mounted_is_told_by_its_event(message: str, patience_s: float) -> None:
    found = outlook(waiting("ContainerCreating"), [event("FailedMount", message)])
    assert found.condition.reason == f"FailedMount: {message}"
    assert found.patience_s == patience_s


def test_an_old_event_means_nothing_once_the_container_runs() -> None:
    running = {"name": "agent", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    pod = a_pod(
        phase="Running",
        conditions=[SCHEDULED, {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        containerStatuses=[{**running, "state": {"running": {}}}],
    )
    assert outlook(pod, [event("FailedMount", "timed out")]).patience_s is None


def test_an_evicted_pod_has_failed_with_the_nodes_words_and_nobody_starts_it_again() -> None:
    found = a_pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert failed(outlook(found, ())) == "Evicted: The node was low on resource: memory."
    assert condition(found).health is Health.GONE


def test_why_no_node_is_added_is_said_and_waited_for() -> None:
    pod = a_pod(phase="Pending", conditions=[UNSCHEDULABLE])
    first = event("FailedScaleUp", "Node scale up failed: GCE out of resources")
    found = outlook(pod, [first, event("FailedScaleUp", "Node scale up failed: quota 'CPUS' exceeded")])
    assert found == Outlook(
        Condition(
            Health.STARTING,
            "Unschedulable: 0/3 nodes: no cpu; FailedScaleUp: Node scale up failed: quota 'CPUS' exceeded",
        ),
        SCALE_UP_S,
    )
