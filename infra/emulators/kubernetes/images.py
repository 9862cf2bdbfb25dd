"""Image references: which can be pulled here, and what the container runtime says of those that cannot.

There are no images on this machine: a container shows the system itself. Registry `invalid.local` and tag `missing`
stand for an image that is not there.
"""

import re
from typing import Final

ABSENT_REGISTRY: Final = "invalid.local"
ABSENT_TAG: Final = "missing"
# What well-known images run when a Pod names no command. Ours run the agent, and so does what is not known.
_COMMANDS: Final = {
    "pause": ("sleep", "infinity"),
    **dict.fromkeys(("busybox", "alpine", "debian", "ubuntu", "bash"), ("sh",)),
    "python": ("python3",),
    "hello-world": ("echo", "Hello from Docker!"),
}
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>[A-Za-z0-9.-]+(?::\d+)?)/)?(?P<path>{_PATH}(?:/{_PATH})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)


class NotPulled(Exception):
    """`reason` is that of the waiting container."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def full_name(image: str) -> str:
    """As the container runtime calls it: docker.io/library/busybox:latest. Raises NotPulled: it is no reference."""
    match = _parsed(image)
    if match is None:
        why = "repository name must be lowercase" if image != image.lower() else "invalid reference format"
        told = f"couldn't parse image name {image!r}: invalid reference format: {why}".replace("'", '"')
        raise NotPulled(
            "InvalidImageName", f'Failed to apply default image tag "{image}": {told}'.replace(f": {why}: {why}", "")
        )
    registry, path = match["registry"], match["path"]
    if registry is None or not ("." in registry or ":" in registry or registry == "localhost"):
        path = f"{registry}/{path}" if registry else path if "/" in path else f"library/{path}"
        registry = "docker.io"
    tag = match["tag"] or ("" if match["digest"] else "latest")
    return f"{registry}/{path}" + (f":{tag}" if tag else "") + (match["digest"] or "")


def pull(image: str) -> None:
    """Raises NotPulled."""
    name = full_name(image)
    match = _parsed(image)
    if match is not None and (match["tag"] == ABSENT_TAG or name.startswith(f"{ABSENT_REGISTRY}/")):
        if name.startswith(f"{ABSENT_REGISTRY}/"):
            lookup = f"dial tcp: lookup {ABSENT_REGISTRY}: no such host"
            why = f'failed to do request: Head "https://{ABSENT_REGISTRY}/v2/": {lookup}'
        else:
            why = f"{name}: not found"
        told = f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {why}'
        raise NotPulled("ErrImagePull", told)


def is_latest(image: str) -> bool:
    """What decides between imagePullPolicy Always and IfNotPresent."""
    match = _parsed(image)
    return match is not None and not match["digest"] and match["tag"] in (None, "latest")


def own_command(image: str) -> tuple[str, ...]:
    """What the image runs by itself; empty: the workspace agent."""
    match = _parsed(image)
    return _COMMANDS.get(match["path"].rsplit("/", 1)[-1], ()) if match else ()


def _parsed(image: str) -> re.Match[str] | None:
    return _REFERENCE.fullmatch(image)
