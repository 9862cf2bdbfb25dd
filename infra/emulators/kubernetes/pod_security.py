"""Pod Security admission: what the levels baseline and restricted forbid, in the real plugin's words.

kubernetes.io/docs/concepts/security/pod-security-standards
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

LABEL: Final = "pod-security.kubernetes.io/enforce"
LEVELS: Final = ("privileged", "baseline", "restricted")
_BASELINE_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
_RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret", "image",
}  # fmt: skip
_SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip

_Spec = dict[str, Any]


def violations(spec: _Spec, level: str) -> list[str]:
    """As the refusal lists them; none for "privileged"."""
    checks: list[Callable[[_Spec], Iterator[str]]] = []
    if level in ("baseline", "restricted"):
        checks += [_host_namespaces, _host_ports, _privileged, _sysctls, _host_path, _unconfined]
        checks += [_capabilities] if level == "baseline" else []
    if level == "restricted":
        checks += [_escalation, _restricted_capabilities, _volumes, _root, _root_user, _seccomp]
    return [violation for check in checks for violation in check(spec)]


def _containers(spec: _Spec) -> list[dict[str, Any]]:
    return [one for field in ("initContainers", "containers", "ephemeralContainers") for one in spec.get(field) or ()]


def _context(container: dict[str, Any]) -> dict[str, Any]:
    context: dict[str, Any] = container.get("securityContext") or {}
    return context


def _named(names: list[str], noun: str = "container") -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(f'{chr(34)}{name}{chr(34)}' for name in names)}"


def _those(spec: _Spec, test: Callable[[dict[str, Any]], bool]) -> list[str]:
    return [container.get("name", "") for container in _containers(spec) if test(container)]


def _host_namespaces(spec: _Spec) -> Iterator[str]:
    used = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    if used:
        yield f"host namespaces ({', '.join(used)})"


def _host_ports(spec: _Spec) -> Iterator[str]:
    def uses(container: dict[str, Any]) -> bool:
        return any(port.get("hostPort") for port in container.get("ports") or ())

    if names := _those(spec, uses):
        ports = [
            str(port["hostPort"])
            for one in _containers(spec)
            for port in one.get("ports") or ()
            if port.get("hostPort")
        ]
        verb = "use" if len(names) > 1 else "uses"
        noun = f"hostPort{'s' if len(ports) > 1 else ''} {', '.join(ports)}"
        yield f"hostPort ({_named(names)} {verb} {noun})"


def _privileged(spec: _Spec) -> Iterator[str]:
    if names := _those(spec, lambda container: bool(_context(container).get("privileged"))):
        yield f"privileged ({_named(names)} must not set securityContext.privileged=true)"


def _sysctls(spec: _Spec) -> Iterator[str]:
    unsafe = [
        one["name"]
        for one in (spec.get("securityContext") or {}).get("sysctls") or ()
        if one["name"] not in _SAFE_SYSCTLS
    ]
    if unsafe:
        yield f"forbidden sysctls ({', '.join(unsafe)})"


def _host_path(spec: _Spec) -> Iterator[str]:
    if names := [volume.get("name", "") for volume in spec.get("volumes") or () if "hostPath" in volume]:
        yield f"hostPath volumes ({_named(names, 'volume')})"


def _unconfined(spec: _Spec) -> Iterator[str]:
    def unconfined(holder: dict[str, Any]) -> bool:
        return (_context(holder).get("seccompProfile") or {}).get("type") == "Unconfined"

    setters = ["pod"] if unconfined(spec) else []
    if names := _those(spec, unconfined):
        setters.append(_named(names))
    if setters:
        told = " and ".join(setters)
        yield f'seccompProfile ({told} must not set securityContext.seccompProfile.type to "Unconfined")'


def _added(container: dict[str, Any]) -> set[str]:
    return set((_context(container).get("capabilities") or {}).get("add") or ())


def _capabilities(spec: _Spec) -> Iterator[str]:
    if names := _those(spec, lambda container: bool(_added(container) - _BASELINE_CAPABILITIES)):
        forbidden = sorted(set().union(*map(_added, _containers(spec))) - _BASELINE_CAPABILITIES)
        shown = ", ".join(f'"{one}"' for one in forbidden)
        yield f"non-default capabilities ({_named(names)} must not include {shown} in securityContext.capabilities.add)"


def _escalation(spec: _Spec) -> Iterator[str]:
    if names := _those(spec, lambda container: _context(container).get("allowPrivilegeEscalation") is not False):
        told = f"{_named(names)} must set securityContext.allowPrivilegeEscalation=false"
        yield f"allowPrivilegeEscalation != false ({told})"


def _restricted_capabilities(spec: _Spec) -> Iterator[str]:
    def keeps(container: dict[str, Any]) -> bool:
        return "ALL" not in ((_context(container).get("capabilities") or {}).get("drop") or ())

    reasons = []
    if names := _those(spec, keeps):
        reasons.append(f'{_named(names)} must set securityContext.capabilities.drop=["ALL"]')
    if names := _those(spec, lambda container: bool(_added(container) - {"NET_BIND_SERVICE"})):
        more = sorted(set().union(*map(_added, _containers(spec))) - {"NET_BIND_SERVICE"})
        shown = ", ".join(f'"{one}"' for one in more)
        reasons.append(f"{_named(names)} must not include {shown} in securityContext.capabilities.add")
    if reasons:
        yield f"unrestricted capabilities ({'; '.join(reasons)})"


def _volumes(spec: _Spec) -> Iterator[str]:
    bad = [
        (volume.get("name", ""), sorted(volume.keys() - {"name"} - _RESTRICTED_VOLUMES))
        for volume in spec.get("volumes") or ()
    ]
    if bad := [(name, kinds) for name, kinds in bad if kinds]:
        kinds = sorted({kind for _, kinds in bad for kind in kinds})
        verb = "use" if len(bad) > 1 else "uses"
        noun = f"restricted volume type{'s' if len(kinds) > 1 else ''}"
        shown = ", ".join(f'"{kind}"' for kind in kinds)
        yield f"restricted volume types ({_named([name for name, _ in bad], 'volume')} {verb} {noun} {shown})"


def _root(spec: _Spec) -> Iterator[str]:
    whole = _context(spec).get("runAsNonRoot")
    setters = ["pod"] if whole is False else []
    if explicit := _those(spec, lambda container: _context(container).get("runAsNonRoot") is False):
        setters.append(_named(explicit))
    if setters:
        yield f"runAsNonRoot != true ({' and '.join(setters)} must not set securityContext.runAsNonRoot=false)"
        return
    if not whole and (names := _those(spec, lambda container: _context(container).get("runAsNonRoot") is None)):
        yield f"runAsNonRoot != true (pod or {_named(names)} must set securityContext.runAsNonRoot=true)"


def _root_user(spec: _Spec) -> Iterator[str]:
    setters = ["pod"] if _context(spec).get("runAsUser") == 0 else []
    if names := _those(spec, lambda container: _context(container).get("runAsUser") == 0):
        setters.append(_named(names))
    if setters:
        yield f"runAsUser=0 ({' and '.join(setters)} must not set runAsUser=0)"


def _seccomp(spec: _Spec) -> Iterator[str]:
    if (_context(spec).get("seccompProfile") or {}).get("type") in ("RuntimeDefault", "Localhost"):
        return
    if names := _those(spec, lambda container: not _context(container).get("seccompProfile")):
        yield (
            f"seccompProfile (pod or {_named(names)} must set securityContext.seccompProfile.type to "
            '"RuntimeDefault" or "Localhost")'
        )
