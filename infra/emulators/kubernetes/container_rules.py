"""What a container of a Pod may say: ports, environment, mounts, resources, probes, security."""

import re
from collections.abc import Iterator
from typing import Any, Final

from infra.emulators.kubernetes.labels import label_faults, qualified_name_faults
from infra.emulators.kubernetes.quantities import quantity
from infra.emulators.kubernetes.statuses import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_found,
    required,
    unsupported,
)

_PULLS: Final = ("Always", "IfNotPresent", "Never")
PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_SECCOMP: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_UID_RULE = "must be between 0 and 2147483647, inclusive"
_ENV = re.compile(r"[ -<>-~]+")
_ENV_RULE = "a valid environment variable name must consist only of printable ASCII characters other than '='"
PORT_RULE: Final = "must be between 1 and 65535, inclusive"
NATURAL_RULE: Final = "must be greater than or equal to 0"


def container_errors(
    container: dict[str, Any], where: str, names: set[str], volumes: set[str], *, init: bool
) -> Iterator[FieldError]:
    name = container.get("name", "")
    if not name:
        yield required(f"{where}.name")
    elif name in names:
        yield duplicate(f"{where}.name", name)
    else:
        for fault in label_faults(name):
            yield invalid(f"{where}.name", name, fault)
    names.add(name)
    image = container.get("image", "")
    if not image:
        yield required(f"{where}.image")
    elif image != image.strip():
        yield invalid(f"{where}.image", image, "must not have leading or trailing whitespace")
    if container.get("imagePullPolicy") not in _PULLS:
        yield unsupported(f"{where}.imagePullPolicy", container.get("imagePullPolicy"), _PULLS)
    yield from _port_errors(container.get("ports") or (), f"{where}.ports")
    yield from _env_errors(container.get("env") or (), f"{where}.env")
    for index, source in enumerate(container.get("envFrom") or ()):
        kinds = [field for field in ("configMapRef", "secretRef") if source.get(field)]
        at = f"{where}.envFrom[{index}]"
        if len(kinds) != 1:
            rule = "must specify one of: `configMapRef` or `secretRef`"
            yield invalid(at, "", rule if not kinds else "may not have more than one field specified at a time")
        elif not source[kinds[0]].get("name"):
            yield required(f"{at}.{kinds[0]}.name")
    yield from _mount_errors(container.get("volumeMounts") or (), f"{where}.volumeMounts", volumes)
    yield from resource_errors(container.get("resources") or {}, f"{where}.resources")
    always = init and container.get("restartPolicy") == "Always"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container and init and not always:
            yield forbidden(f"{where}.{probe}", "may not be set for init containers without restartPolicy=Always")
        elif probe in container:
            yield from _probe_errors(container[probe], f"{where}.{probe}", once=probe != "readinessProbe")
    context = container.get("securityContext") or {}
    yield from context_errors(context, f"{where}.securityContext")
    if context.get("allowPrivilegeEscalation") is False and context.get("privileged"):
        rule = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        yield invalid(f"{where}.securityContext", context, rule)


def _port_errors(ports: Any, where: str) -> Iterator[FieldError]:
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = f"{where}[{index}]"
        name, number = port.get("name", ""), port.get("containerPort", 0)
        if name and name in names:
            yield duplicate(f"{at}.name", name)
        elif name:
            for fault in port_name_faults(name):
                yield invalid(f"{at}.name", name, fault)
        names.add(name)
        if number == 0:
            yield required(f"{at}.containerPort")
        elif not 1 <= number <= 65535:
            yield invalid(f"{at}.containerPort", number, PORT_RULE)
        if (host := port.get("hostPort", 0)) and not 1 <= host <= 65535:
            yield invalid(f"{at}.hostPort", host, PORT_RULE)
        if port.get("protocol") not in PROTOCOLS:
            yield unsupported(f"{at}.protocol", port.get("protocol"), PROTOCOLS)


def port_name_faults(name: str) -> list[str]:
    """Of an IANA service name."""
    faults = [] if len(name) <= 15 else ["must be no more than 15 characters"]
    if re.search(r"[^-a-z0-9]", name):
        faults.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", name):
        faults.append("must contain at least one letter (a-z)")
    if "--" in name:
        faults.append("must not contain consecutive hyphens")
    if name.startswith("-") or name.endswith("-"):
        faults.append("must not begin or end with a hyphen")
    return faults


def _env_errors(variables: Any, where: str) -> Iterator[FieldError]:
    for index, variable in enumerate(variables):
        at, name, source = f"{where}[{index}]", variable.get("name", ""), variable.get("valueFrom")
        if not name:
            yield required(f"{at}.name")
        elif not _ENV.fullmatch(name):
            yield invalid(f"{at}.name", name, _ENV_RULE)
        if source is None:
            continue
        kinds = [key for key, value in source.items() if value]
        if not kinds:
            rule = (
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            )
            yield invalid(f"{at}.valueFrom", "", rule)
        elif len(kinds) > 1:
            yield invalid(f"{at}.valueFrom", "", "may not have more than one field specified at a time")
        if variable.get("value"):
            yield invalid(f"{at}.valueFrom", "", "may not be specified when `value` is not empty")
        for kind in ("configMapKeyRef", "secretKeyRef"):
            if kind in kinds:
                for field in ("name", "key"):
                    if not source[kind].get(field):
                        yield required(f"{at}.valueFrom.{kind}.{field}")


def _mount_errors(mounts: Any, where: str, volumes: set[str]) -> Iterator[FieldError]:
    paths: set[str] = set()
    for index, mount in enumerate(mounts):
        at, name, path = f"{where}[{index}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield required(f"{at}.name")
        elif name not in volumes:
            yield not_found(f"{at}.name", name)
        if not path:
            yield required(f"{at}.mountPath")
        elif path in paths:
            yield invalid(f"{at}.mountPath", path, "must be unique")
        elif ":" in path:
            yield invalid(f"{at}.mountPath", path, "must not contain ':'")
        paths.add(path)
        sub = mount.get("subPath", "")
        if sub.startswith("/"):
            yield invalid(f"{at}.subPath", sub, "must be a relative path")
        if ".." in sub.split("/"):
            yield invalid(f"{at}.subPath", sub, "must not contain '..'")


def resource_errors(resources: dict[str, Any], where: str) -> Iterator[FieldError]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            at = f"{where}.{field}[{name}]"
            for fault in qualified_name_faults(name):
                yield invalid(f"{where}.{field}", name, fault)
            if (
                "/" not in name
                and name not in ("cpu", "memory", "ephemeral-storage")
                and not name.startswith("hugepages-")
            ):
                yield invalid(at, name, "must be a standard resource for containers")
            if quantity(amount) < 0:
                yield invalid(at, amount, NATURAL_RULE)
    for name, amount in requests.items():
        limit = limits.get(name)
        if limit is not None and quantity(amount) > quantity(limit):
            yield invalid(f"{where}.requests", amount, f"must be less than or equal to {name} limit of {limit}")


def _probe_errors(probe: dict[str, Any], where: str, *, once: bool) -> Iterator[FieldError]:
    handlers = [name for name in _HANDLERS if name in probe]
    if not handlers:
        yield required(where, "must specify a handler type")
    for extra in handlers[1:]:
        yield forbidden(f"{where}.{extra}", "may not specify more than 1 handler type")
    for name in ("httpGet", "tcpSocket"):
        port = (probe.get(name) or {}).get("port")
        if name in handlers and isinstance(port, int) and not 1 <= port <= 65535:
            yield invalid(f"{where}.{name}.port", port, PORT_RULE)
    if "exec" in handlers and not probe["exec"].get("command"):
        yield required(f"{where}.exec.command")
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if probe.get(field, 0) < 0:
            yield invalid(f"{where}.{field}", probe[field], NATURAL_RULE)
    if once and probe.get("successThreshold", 1) != 1:
        yield invalid(f"{where}.successThreshold", probe["successThreshold"], "must be 1")


def context_errors(context: dict[str, Any], where: str) -> Iterator[FieldError]:
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        if field in context and not 0 <= context[field] <= 2**31 - 1:
            yield invalid(f"{where}.{field}", context[field], _UID_RULE)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        if not 0 <= group <= 2**31 - 1:
            yield invalid(f"{where}.supplementalGroups[{index}]", group, _UID_RULE)
    profile = context.get("seccompProfile")
    if profile is not None:
        kind = profile.get("type", "")
        if not kind:
            yield required(f"{where}.seccompProfile.type", "type is required when seccompProfile is set")
        elif kind not in _SECCOMP:
            yield unsupported(f"{where}.seccompProfile.type", kind, _SECCOMP)
        elif kind == "Localhost" and not profile.get("localhostProfile"):
            yield required(f"{where}.seccompProfile.localhostProfile", "must be set when seccomp type is Localhost")
