"""What a container of a Pod asks of a sandbox: its words, variables, mounts, limits and network."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from infra.emulators.kubernetes import images
from infra.emulators.kubernetes.kinds import NETWORK_POLICIES
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.pod_env import ConfigMissing, expanded, hostname
from infra.emulators.kubernetes.quantities import quantity
from infra.emulators.kubernetes.selectors import matches
from infra.sandbox.spec import (
    AGENT_SOCKET,
    MINIMUM_MEMORY_BYTES,
    WORKSPACE,
    Attendance,
    ContainerSpec,
    Limits,
    Mount,
    Sink,
)

Object = dict[str, Any]
AGENT_PORT: Final = 8080
_EVERYWHERE: Final = ("0.0.0.0/0", "::/0")


def sandbox_name(pod: Object, suffix: str = "") -> str:
    """Of the first container it is the Pod's own; others have a suffix."""
    return f"pod-{pod['metadata']['uid'].replace('-', '')[:12]}{suffix}"


def container_spec(
    pod: Object,
    container: Object,
    *,
    name: str,
    env: Mapping[str, str],
    mounts: tuple[Mount, ...],
    egress: bool,
    allocatable: Mapping[str, Decimal],
    log: Sink,
) -> ContainerSpec:
    """Raises ConfigMissing: it is to run as somebody it may not run as."""
    _check_user(pod, container)
    command = _command(container, env)
    if not command:
        env = {"PORT": str(agent_port(container)), **env, "ONMEMOS_AGENT_SOCKET": AGENT_SOCKET}
    return ContainerSpec(
        name=name,
        image=container["image"],
        env=env,
        mounts=mounts,
        limits=_limits(container, allocatable),
        egress=egress,
        command=command,
        hostname=hostname(pod),
        workdir=container.get("workingDir") or WORKSPACE,
        attendance=_attendance(container, agent=not command),
        log=log,
    )


def is_agent(container: Object) -> bool:
    return not _command(container, {})


def agent_port(container: Object) -> int:
    """The port that stands for the agent's Unix socket."""
    for variable in container.get("env") or ():
        if variable["name"] == "PORT" and str(variable.get("value", "")).isdigit():
            return int(variable["value"])
    ports = container.get("ports") or ()
    return int(ports[0]["containerPort"]) if ports else AGENT_PORT


def port_number(container: Object, port: int | str) -> int | None:
    """A number, or the name of one of the container's ports."""
    if str(port).isdigit():
        return int(port)
    named = (one["containerPort"] for one in container.get("ports") or () if one.get("name") == port)
    return next(named, None)


def has_egress(objects: Objects, pod: Object) -> bool:
    """Whether policies leave it a way to the internet: decided when its containers start."""
    labels = pod["metadata"].get("labels") or {}
    selecting = [
        policy["spec"]
        for policy in objects.list(NETWORK_POLICIES, pod["metadata"]["namespace"])[0]
        if matches(policy["spec"].get("podSelector") or {}, labels) and _rules_egress(policy["spec"])
    ]
    return not selecting or any(_opens(rule) for spec in selecting for rule in spec.get("egress") or ())


def _rules_egress(spec: Object) -> bool:
    return "Egress" in (spec.get("policyTypes") or (["Egress"] if spec.get("egress") else ()))


def _opens(rule: Object) -> bool:
    peers = rule.get("to") or ()
    return not peers or any((peer.get("ipBlock") or {}).get("cidr") in _EVERYWHERE for peer in peers)


def _command(container: Object, env: Mapping[str, str]) -> tuple[str, ...]:
    """Arguments alone are a command here: an image's own entry point is not known."""
    words = (*(container.get("command") or ()), *(container.get("args") or ()))
    if words:
        return tuple(expanded(word, env) for word in words)
    own = images.own_command(container["image"])
    return own or (("sh",) if container.get("stdin") else ())


def _attendance(container: Object, *, agent: bool) -> Attendance:
    if agent:
        return Attendance.PLAIN
    if container.get("tty"):
        return Attendance.TTY
    return Attendance.STDIN if container.get("stdin") else Attendance.PLAIN


def _limits(container: Object, allocatable: Mapping[str, Decimal]) -> Limits:
    """What has no limit may take what the node has; memory only up to what a sandbox has by itself."""
    given = (container.get("resources") or {}).get("limits") or {}
    default = Limits()
    cpu = float(quantity(str(given["cpu"]))) if "cpu" in given else float(allocatable["cpu"])
    memory = int(quantity(str(given["memory"]))) if "memory" in given else default.memory_bytes
    return Limits(cpu=max(cpu, 0.01), memory_bytes=max(memory, MINIMUM_MEMORY_BYTES))


def _check_user(pod: Object, container: Object) -> None:
    context = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
    if context.get("runAsNonRoot") and context.get("runAsUser") == 0:
        name = f"{pod['metadata']['name']}_{pod['metadata']['namespace']}({pod['metadata']['uid']})"
        raise ConfigMissing(
            f'container\'s runAsUser breaks non-root policy (pod: "{name}", container: {container["name"]})'
        )
