"""Builds the images with Docker or podman: `python -m infra.images [--registry=PREFIX] [--tag=TAG] [NAME…]`.

The same as infra/cloudbuild.yaml does in the cloud, one after another, and pushes nothing. Standard library alone.
Exit code 2: there is no engine here that builds; the complaint says what is wanted.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORKSPACE = "infra/workspace"
REGISTRY = "onmemos/workspace-"  # shared.templates.IMAGE begins so: where a local stack looks for images
TAG = "latest"
ENGINES = ("docker", "podman")
WANTED = "Docker 23 (docs.docker.com/get-docker) or podman 4 (podman.io); in the cloud, infra/cloudbuild.yaml builds"
ANSWER_TIMEOUT_S = 20.0
BUILD_TIMEOUT_S = 1800.0
NO_ENGINE = 2


@dataclass(frozen=True, slots=True)
class Image:
    """`context`, `file`: of the repository. `needs_agent`: the agent's image is copied from."""

    name: str
    file: str
    context: str = WORKSPACE
    needs_agent: bool = True


IMAGES = (
    Image("agent", f"{WORKSPACE}/agent.Dockerfile", needs_agent=False),
    *(Image(name, f"{WORKSPACE}/{name}.Dockerfile") for name in ("base", "python", "nodejs", "go")),
    Image("control", "infra/control/Dockerfile", context=".", needs_agent=False),
)


class NoEngine(Exception):
    """Nothing here builds images; the message says what was tried and what is wanted."""


def engine() -> str:
    """The first that answers. Raises NoEngine."""
    tried = []
    for name in ENGINES:
        program = shutil.which(name)
        if program is None:
            tried.append(f"{name}: not on PATH")
            continue
        try:
            done = subprocess.run(
                [program, "info"], capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            tried.append(f"{name}: {exc}")
            continue
        if done.returncode == 0:
            return program
        tried.append(f"{name}: {(done.stderr.strip() or 'does not answer').splitlines()[-1]}")
    raise NoEngine(f"got no engine that builds ({'; '.join(tried)}); wanted {WANTED}")


def command(program: str, image: Image, registry: str, tag: str) -> list[str]:
    """What builds it, from the repository's root."""
    agent = [f"--build-arg=AGENT={registry}agent:{tag}"] if image.needs_agent else []
    return [
        program, "build", f"--file={image.file}", f"--build-arg=VERSION={tag}", *agent,
        f"--tag={registry}{image.name}:{tag}", image.context,
    ]  # fmt: skip


def build(names: Sequence[str], registry: str, tag: str) -> int:
    """The exit code of the first that fails; 0: none did. Without names: all. Raises NoEngine."""
    program = engine()
    wanted = [image for image in IMAGES if not names or image.name in names]
    if any(image.needs_agent for image in wanted) and IMAGES[0] not in wanted:
        wanted.insert(0, IMAGES[0])
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}  # a Docker of before 23 has it and does not use it
    for image in wanted:
        code = subprocess.call(
            command(program, image, registry, tag), cwd=ROOT, env=environment, timeout=BUILD_TIMEOUT_S
        )
        if code:
            sys.stderr.write(f"images: {image.name} could not be built from {image.file}\n")
            return code
        sys.stdout.write(f"{registry}{image.name}:{tag}\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.images", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(image.name for image in IMAGES))
    parser.add_argument("--registry", default=REGISTRY, help="what stands before the name (default: %(default)s)")
    parser.add_argument("--tag", default=TAG, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {image.name for image in IMAGES}
    if unknown:
        parser.error(f"got {', '.join(sorted(unknown))}, wanted some of {', '.join(image.name for image in IMAGES)}")
    try:
        return build(options.names, options.registry, options.tag)
    except NoEngine as exc:
        sys.stderr.write(f"images: {exc}\n")
        return NO_ENGINE


if __name__ == "__main__":
    sys.exit(main())
