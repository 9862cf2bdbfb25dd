"""The first command line and the environment of a container, whatever runs it."""

from infra.sandbox.cgroups import OVERHEAD_PROCESSES
from infra.sandbox.egress import Egress
from infra.sandbox.python import LAUNCHER_FOLDER, Interpreter
from infra.sandbox.rootfs import SYSTEM_PATH, ca_environment
from infra.sandbox.spec import AGENT_SOCKET, WORKSPACE, ContainerSpec


def launch(spec: ContainerSpec, interpreter: Interpreter, egress: Egress, data_bytes: int) -> list[str]:
    """The launcher's argv; `data_bytes` bounds one process's own memory, 0 = not (a control group does)."""
    limits = spec.limits
    numbers = f"{limits.processes + OVERHEAD_PROCESSES}:{limits.file_size_bytes}:{data_bytes}"
    # -I and -S: nothing of the session's own Python set-up may run in the agent; it also starts faster.
    python = [interpreter.executable, "-I", "-S", "-X", "utf8"]
    launcher = [*python, f"{LAUNCHER_FOLDER}/launcher.py"]
    return [*launcher, numbers, str(egress.forward_port), spec.attendance.value, *spec.command]


def variables(spec: ContainerSpec, interpreter: Interpreter, egress: Egress) -> dict[str, str]:
    """The whole environment; what the caller set wins, except for where things are inside."""
    return {
        "HOME": WORKSPACE,
        "USER": "user",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",  # PEP 668 guards systems; this one is thrown away
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **ca_environment(),
        **egress.environment,
        **dict(interpreter.environment),
        "ONMEMOS_AGENT_SOCKET": AGENT_SOCKET,
        "PATH": ":".join((f"{WORKSPACE}/.local/bin", *interpreter.path, SYSTEM_PATH)),
        **spec.env,
    }
