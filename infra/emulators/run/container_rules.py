"""What Cloud Run refuses about a container: image, port, variables, resources, mounts, probes. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from google.cloud.run_v2 import types

from infra.emulators.run.quantities import parse_quantity

MIB = 2**20
GIB = 2**30

DEFAULT_CPU = Decimal(1)  # cloud.google.com/run/docs/configuring/services/cpu
DEFAULT_MEMORY_BYTES = 512 * MIB  # cloud.google.com/run/docs/configuring/services/memory-limits
DEFAULT_PORT = 8080
DEFAULT_CONCURRENCY = 80  # of a whole cpu or more; 1 below that

ENV_LIMIT = 1000  # variables: cloud.google.com/run/docs/configuring/services/environment-variables
ENV_VALUE_LIMIT = 32768  # EnvVar: characters of a name, bytes of a value
SERVICE_ENV = frozenset({"PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"})  # the container runtime contract
JOB_ENV = frozenset(f"CLOUD_RUN_{name}" for name in ("JOB", "EXECUTION", "TASK_INDEX", "TASK_ATTEMPT", "TASK_COUNT"))
RESERVED_PATHS = ("/dev", "/proc", "/sys")
PROBE_LIMIT_S = 240  # Probe.initial_delay_seconds and .period_seconds of a startup probe
STARTUP_LIMIT_S = 240  # cloud.google.com/run/docs/configuring/healthchecks: failureThreshold * periodSeconds

# cloud.google.com/run/docs/configuring/services/cpu: cpu, and the least and most memory that goes with it.
_MEMORY_OF_CPU = (
    (Decimal("0.08"), 128 * MIB, 512 * MIB),
    (Decimal("0.5"), 128 * MIB, 1 * GIB),
    (Decimal(1), 128 * MIB, 4 * GIB),
    (Decimal(2), 128 * MIB, 8 * GIB),
    (Decimal(4), 2 * GIB, 16 * GIB),
    (Decimal(6), 4 * GIB, 24 * GIB),
    (Decimal(8), 4 * GIB, 32 * GIB),
)
_WHOLE_CPUS = frozenset({Decimal(1), Decimal(2), Decimal(4), Decimal(6), Decimal(8)})
_GEN2_LEAST_MEMORY = 512 * MIB

# Also names without a registry: Docker Hub is assumed.
_IMAGE = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rules for a container depend on beside itself.

    `whole_cpus` says why it cannot have less than one cpu, where it cannot. What does not serve has no port and no
    probe.
    """

    volumes: Sequence[types.Volume]
    gen2: bool
    reserved_env: frozenset[str]
    whole_cpus: str = ""
    serves: bool = True
    default_cpu: Decimal = DEFAULT_CPU
    default_memory_bytes: int = DEFAULT_MEMORY_BYTES


def check_container(container: types.Container, around: Surroundings, field: str) -> None:
    """`field` is the container's path. Raises InvalidArgument or MethodNotImplemented."""
    if not container.image:
        raise InvalidArgument(f"Violation in {field}.image: required field not present.")
    if _IMAGE.fullmatch(container.image) is None:
        raise InvalidArgument(
            f"{field}.image: Expected an image path like [host/]repo-path[:tag and/or @digest], "
            f"got '{container.image}'."
        )
    if container.ports and not around.serves:
        raise InvalidArgument(f"Violation in {field}.ports: the tasks of a job have no ports.")
    if len(container.ports) > 1:
        raise InvalidArgument(f"Violation in {field}.ports: ports should contain 0 or 1 port.")
    for port in container.ports:
        if not 1 <= port.container_port <= 65535:
            raise InvalidArgument(
                f"Violation in {field}.ports[0].container_port: must be between 1 and 65535, got {port.container_port}."
            )
        if port.name not in {"", "http1", "h2c"}:
            raise InvalidArgument(f"Violation in {field}.ports[0].name: must be http1 or h2c, got '{port.name}'.")
    check_env(container.env, around.reserved_env, f"{field}.env")
    _check_resources(container, around, f"{field}.resources.limits")
    _check_mounts(container, around.volumes, f"{field}.volume_mounts")
    if "startup_probe" in container:
        if not around.serves:
            raise MethodNotImplemented(f"{field}.startup_probe: the emulator does not probe the tasks of a job")
        _check_startup_probe(container.startup_probe, f"{field}.startup_probe")


def cpu_of(container: types.Container, default: Decimal = DEFAULT_CPU) -> Decimal:
    """Cores, `default` where the container sets none. Raises ValueError: not a quantity."""
    text = container.resources.limits.get("cpu")
    return parse_quantity(text) if text else default


def memory_of(container: types.Container, default: int = DEFAULT_MEMORY_BYTES) -> int:
    """Bytes, `default` where the container sets none. Raises ValueError: not a quantity."""
    text = container.resources.limits.get("memory")
    return int(parse_quantity(text)) if text else default


def plain_path(mount_path: str) -> str:
    """Without doubled and trailing slashes."""
    return "/" + "/".join(part for part in mount_path.split("/") if part)


def check_env(env: Sequence[types.EnvVar], reserved: frozenset[str], field: str) -> None:
    """A name may come twice: the last one counts (cloud.google.com/run/docs/reference/rest, Container.env)."""
    if len(env) > ENV_LIMIT:
        raise InvalidArgument(f"Violation in {field}: at most {ENV_LIMIT} variables, got {len(env)}.")
    taken = sorted({variable.name for variable in env} & reserved)
    if taken:
        raise InvalidArgument(
            f"{field}: The following reserved env names were provided: {', '.join(taken)}. "
            "These values are automatically set by the system."
        )
    for index, variable in enumerate(env):
        name = variable.name
        if not name or "=" in name or "\0" in name or name.startswith("X_GOOGLE_") or len(name) > ENV_VALUE_LIMIT:
            raise InvalidArgument(
                f"Violation in {field}[{index}].name: must not be empty, contain '=' or begin with X_GOOGLE_, "
                f"got '{name[:80]}'."
            )
        if "value_source" in variable:
            raise MethodNotImplemented(f"{field}[{index}].value_source: the emulator has no Secret Manager")
        size = len(variable.value.encode())
        if size > ENV_VALUE_LIMIT or "\0" in variable.value:
            raise InvalidArgument(
                f"Violation in {field}[{index}].value: at most {ENV_VALUE_LIMIT} bytes without NUL, got {size} bytes."
            )


def _check_resources(container: types.Container, around: Surroundings, field: str) -> None:
    unknown = sorted(set(container.resources.limits) - {"cpu", "memory", "nvidia.com/gpu"})
    if unknown:
        raise InvalidArgument(f"{field}: only memory, cpu and nvidia.com/gpu are supported, got {unknown[0]}.")
    if "nvidia.com/gpu" in container.resources.limits:
        raise MethodNotImplemented(f"{field}: the emulator has no GPUs")
    cpu = _cpu(container, around, field)
    if cpu < 1 and around.whole_cpus:
        raise InvalidArgument(f"{field}.cpu: Invalid value specified for cpu. {around.whole_cpus}")
    memory = _memory(container, around, field)
    least, most = next((least, most) for bound, least, most in reversed(_MEMORY_OF_CPU) if cpu >= bound)
    least = max(least, _GEN2_LEAST_MEMORY) if around.gen2 else least
    if not least <= memory <= most:
        where = " with gen2 execution environment" if around.gen2 else ""
        raise InvalidArgument(
            f"{field}.memory: Invalid value specified for memory{where}. For {float(cpu):g} CPU, memory must be "
            f"between {_in_words(least)} and {_in_words(most)} inclusive."
        )


def _cpu(container: types.Container, around: Surroundings, field: str) -> Decimal:
    try:
        cpu = cpu_of(container, around.default_cpu)
    except ValueError as exc:
        raise InvalidArgument(f"{field}.cpu: Invalid value specified for cpu: {exc}.") from exc
    if cpu not in _WHOLE_CPUS and not Decimal("0.08") <= cpu < 1:
        raise InvalidArgument(
            f"{field}.cpu: Invalid value specified for cpu. Must be 1, 2, 4, 6, 8 or between 0.08 and 1, "
            f"got {container.resources.limits['cpu']}."
        )
    return cpu


def _memory(container: types.Container, around: Surroundings, field: str) -> int:
    try:
        return memory_of(container, around.default_memory_bytes)
    except ValueError as exc:
        raise InvalidArgument(f"{field}.memory: Invalid value specified for memory: {exc}.") from exc


def _check_mounts(container: types.Container, volumes: Sequence[types.Volume], field: str) -> None:
    known = {volume.name for volume in volumes}
    seen: set[str] = set()
    for index, mount in enumerate(container.volume_mounts):
        path = f"{field}[{index}]"
        if mount.name not in known:
            raise InvalidArgument(f"Violation in {path}.name: no volume is named '{mount.name}'.")
        parts = mount.mount_path.split("/")
        if not mount.mount_path.startswith("/") or ":" in mount.mount_path or {".", ".."} & set(parts):
            raise InvalidArgument(
                f"Violation in {path}.mount_path: must be an absolute path without ':', got '{mount.mount_path}'."
            )
        target = plain_path(mount.mount_path)
        if target == "/" or any(target == r or target.startswith(f"{r}/") for r in RESERVED_PATHS):
            raise InvalidArgument(f"Violation in {path}.mount_path: '{mount.mount_path}' is reserved.")
        if target in seen:
            raise InvalidArgument(f"Violation in {path}.mount_path: duplicate mount path '{mount.mount_path}'.")
        if mount.sub_path.startswith("/") or ".." in mount.sub_path.split("/"):
            raise InvalidArgument(
                f"Violation in {path}.sub_path: must be a relative path inside the volume, got '{mount.sub_path}'."
            )
        seen.add(target)


def _check_startup_probe(probe: types.Probe, field: str) -> None:
    """Zeroes stand for the defaults: no delay, 1 s of timeout, 10 s of period, 3 failures."""
    kind = types.Probe.pb(probe).WhichOneof("probe_type")
    if kind == "grpc":
        raise MethodNotImplemented(f"{field}.grpc: the emulator probes with http_get and tcp_socket")
    if kind is None:
        raise InvalidArgument(f"Violation in {field}: one of http_get, tcp_socket and grpc is required.")
    period = probe.period_seconds or 10
    timeout = probe.timeout_seconds or 1
    for name, seen, least, most in (
        ("initial_delay_seconds", probe.initial_delay_seconds, 0, PROBE_LIMIT_S),
        ("period_seconds", period, 1, PROBE_LIMIT_S),
        ("timeout_seconds", timeout, 1, period),
        ("failure_threshold", probe.failure_threshold or 3, 1, STARTUP_LIMIT_S // period),
    ):
        if not least <= seen <= most:
            raise InvalidArgument(f"Violation in {field}.{name}: must be between {least} and {most}, got {seen}.")
    if kind == "http_get" and probe.http_get.path and not probe.http_get.path.startswith("/"):
        raise InvalidArgument(f"Violation in {field}.http_get.path: must begin with '/', got '{probe.http_get.path}'.")


def _in_words(size_bytes: int) -> str:
    return f"{size_bytes // GIB}Gi" if size_bytes >= GIB else f"{size_bytes // MIB}Mi"
