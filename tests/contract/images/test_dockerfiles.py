"""The Dockerfiles, Cloud Build's list and the templates say the same; what each image must have, it has."""

import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from infra import images
from infra.images import IMAGES, ROOT, Image
from shared import cloud_run_jobs
from shared.providers.cloud_run_container import AGENT_PORT, USER_ID
from shared.templates import IMAGE, OURS

WORKSPACE = ROOT / "infra" / "workspace"
TEMPLATES = [template.name for template in OURS]
SESSIONS = [image for image in IMAGES if image.name in TEMPLATES]
PINNED = re.compile(r"[a-z]+:[a-z0-9.-]*[0-9]{1,8}[a-z0-9.-]*@sha256:[0-9a-f]{64}")


def parsed(image: Image) -> DockerfileParser:
    return DockerfileParser(fileobj=io.BytesIO((ROOT / image.file).read_bytes()))


def last_stage(image: Image) -> list[tuple[str, str]]:
    steps = [(step["instruction"], step["value"]) for step in parsed(image).structure]
    begins = max(number for number, (instruction, _) in enumerate(steps) if instruction == "FROM")
    return steps[begins:]


def said(image: Image, instruction: str) -> list[str]:
    return [value for name, value in last_stage(image) if name == instruction]


def cloud_build() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "infra" / "cloudbuild.yaml").read_text()))


def test_every_template_has_an_image_and_every_dockerfile_is_built() -> None:
    assert [image.name for image in SESSIONS] == TEMPLATES
    assert {image.name for image in IMAGES} == {"agent", "control", *TEMPLATES}
    assert {path.name for path in WORKSPACE.glob("*Dockerfile")} == {
        f"{name}.Dockerfile" for name in ("agent", *TEMPLATES)
    }


def test_images_that_are_built_here_are_those_that_a_local_stack_starts() -> None:
    assert IMAGE.format(template="base") == f"{images.REGISTRY}base"


def test_cloud_build_builds_the_same_in_the_same_way() -> None:
    build = cloud_build()
    tags = {image.name: "${_CONTROL_TAG}" if image.name == "control" else "${_TAG}" for image in IMAGES}
    wanted = [images.command("docker", image, "${_REGISTRY}/", tags[image.name])[1:] for image in IMAGES]
    assert [step["args"] for step in build["steps"]] == wanted
    assert [step["id"] for step in build["steps"]] == [image.name for image in IMAGES]
    assert build["images"] == [f"${{_REGISTRY}}/{name}:{tag}" for name, tag in tags.items()]


def test_what_waits_for_nothing_but_the_agent_is_built_at_the_same_time() -> None:
    waits = {step["id"]: step["waitFor"] for step in cloud_build()["steps"]}
    assert waits == {"agent": ["-"], "control": ["-"], **{name: ["agent"] for name in TEMPLATES}}


def test_terraform_gives_each_substitution() -> None:
    used = set(re.findall(r"\$\{(_[A-Z_]+)\}", (ROOT / "infra" / "cloudbuild.yaml").read_text()))
    terraform = (ROOT / "terraform" / "images.tf").read_text()
    given = re.search(r"--substitutions=(\S+)\"", terraform)
    assert given is not None
    assert {pair.partition("=")[0] for pair in given[1].split(",")} == used


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_bases_are_pinned_by_version_and_digest(image: Image) -> None:
    steps = [step["value"].split() for step in parsed(image).structure if step["instruction"] == "FROM"]
    bases = [words[0] for words in steps if words[0] not in {"scratch", "${AGENT}"}]
    assert bases or image.name == "agent"
    for base in bases:
        assert PINNED.fullmatch(base), base


def test_one_name_has_one_digest() -> None:
    text = "".join((ROOT / image.file).read_text() for image in IMAGES)
    pinned = set(re.findall(r"^FROM (\S+)@(\S+)", text, re.MULTILINE))
    assert len({name for name, _ in pinned}) == len(pinned)


@pytest.mark.parametrize("image", SESSIONS, ids=lambda image: image.name)
def test_a_sessions_image_is_what_the_providers_expect(image: Image) -> None:
    assert said(image, "USER") == [f"{USER_ID}:{USER_ID}"]
    assert said(image, "WORKDIR") == ["/workspace"]
    assert said(image, "EXPOSE") == [str(AGENT_PORT)]
    assert said(image, "STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(said(image, "ENTRYPOINT")[0]) == ["/opt/onmemos/bin/agent"]
    assert said(image, "CMD") == []
    assert json.loads(said(image, "HEALTHCHECK")[0].partition("CMD ")[2]) == ["/opt/onmemos/bin/health"]
    assert "--from=agent /opt/onmemos /opt/onmemos" in said(image, "COPY")
    labels = parsed(image).labels
    assert labels["dev.onmemos.template"] == image.name
    assert labels["org.opencontainers.image.title"] == f"OnMemOS {image.name}"
    described = next(template.description for template in OURS if template.name == image.name)
    assert labels["org.opencontainers.image.description"] == described
    variables = parsed(image).envs
    assert (variables["HOME"], variables["PORT"]) == ("/workspace", str(AGENT_PORT))
    assert "PYTHONPATH" not in variables


@pytest.mark.parametrize("image", SESSIONS, ids=lambda image: image.name)
def test_a_sessions_image_is_set_up_in_one_layer_and_builds_nothing(image: Image) -> None:
    """What one step installs and the next removes would stay in the image."""
    (run,) = said(image, "RUN")
    assert run.startswith("--mount=type=bind,source=setup.sh,target=/tmp/setup.sh sh /tmp/setup.sh")
    assert not re.search(r"\b(gcc|g\+\+|make|build-essential|python3-pip)\b", run)


def test_programs_that_images_start_are_there() -> None:
    programs = {path.stem for path in (WORKSPACE / "programs").glob("[!_]*.py")}
    assert programs == {"agent", "health"}
    for path in (WORKSPACE / "programs").glob("[!_]*.py"):
        assert path.read_text().startswith("#!/opt/onmemos/python/bin/python3 -IS\n")
    assert cloud_run_jobs.RUNNER[0] == "/opt/onmemos/python/bin/python3"


def test_the_control_planes_image_runs_as_nobody_in_particular_and_starts_the_relay() -> None:
    control = IMAGES[-1]
    assert said(control, "USER") == ["1000:1000"]
    assert json.loads(said(control, "CMD")[0]) == ["python", "-m", "functions.relay"]
    copied = [value.split()[:-1] for value in said(control, "COPY") if not value.startswith("--from")]
    sources = [source for words in copied for source in words]
    assert all((ROOT / source).exists() for source in sources)
    shown = (ROOT / "infra" / "control" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in shown if line.startswith("!")} == {*sources, "requirements.txt", "constraints.txt"}


@pytest.mark.skipif(os.geteuid() != 0, reason="makes users of a system of its own: wants root")
@pytest.mark.parametrize("taken", [False, True])
def test_the_set_up_makes_the_sessions_user_whoever_had_its_number(tmp_path: Path, taken: bool) -> None:
    """On a /etc of its own; apt-get is a stand-in, for it would ask the network."""
    etc, stand_ins, top = tmp_path / "etc", tmp_path / "bin", tmp_path / "top"
    etc.mkdir()
    stand_ins.mkdir()
    top.mkdir()
    before = {"passwd": "root:x:0:0::/root:/bin/sh\n", "group": "root:x:0:\n", "shadow": "root:*::::::::\n"}
    for name, text in before.items():
        (etc / name).write_text(text)
    if taken:
        (etc / "passwd").open("a").write("node:x:1000:1000::/home/node:/bin/sh\n")
        (etc / "group").open("a").write("node:x:1000:\n")
    (etc / "login.defs").write_text("USERGROUPS_ENAB yes\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\n")
    (stand_ins / "apt-get").write_text(f'#!/bin/sh\necho "$@" >>{top}/asked\n')
    (stand_ins / "apt-get").chmod(0o755)
    setup = (WORKSPACE / "setup.sh").read_text()
    for path in ("/workspace /data", "/usr/bin/python3", "/var/"):
        assert path in setup
    script = (
        setup.replace("/workspace /data", f"{top}/workspace {top}/data")
        .replace("/usr/bin/python3", f"{top}/python3")
        .replace("/var/", f"{top}/var/")
        .replace("command -v python3", "false")
    )
    wrapped = f"mount --bind {etc} /etc && PATH={stand_ins}:/usr/sbin:/usr/bin:/sbin:/bin sh -s git jq"
    unshare = shutil.which("unshare")
    assert unshare is not None
    done = subprocess.run(
        [unshare, "--mount", "sh", "-c", wrapped], input=script, text=True, capture_output=True, check=False
    )
    if "mount:" in done.stderr:
        pytest.skip("this machine lets root mount nothing")
    assert done.returncode == 0, done.stderr
    assert "user:x:1000:1000::/workspace:/bin/bash\n" in (etc / "passwd").read_text()
    assert "node" not in (etc / "passwd").read_text() + (etc / "group").read_text()
    assert (top / "asked").read_text().splitlines()[1].endswith(" zip git jq")
    for name in ("workspace", "data"):
        assert ((top / name).stat().st_uid, (top / name).stat().st_gid) == (USER_ID, USER_ID)
    assert os.readlink(top / "python3") == "/opt/onmemos/python/bin/python3"  # noqa: PTH115


def test_without_an_engine_it_says_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert images.main([]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("images: got no engine that builds (docker: not on PATH; podman: not on PATH); wanted ")


def test_what_is_named_is_built_after_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine is a stand-in that writes down what it is asked for."""
    podman = tmp_path / "podman"
    podman.write_text(f'#!/bin/sh\n[ "$1" = info ] || echo "$@" >>{tmp_path}/asked\n')
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert images.main(["go", "--registry=r.example/x/", "--tag=7"]) == 0
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[1] for line in asked] == [
        "--file=infra/workspace/agent.Dockerfile", "--file=infra/workspace/go.Dockerfile",
    ]  # fmt: skip
    assert "--build-arg=AGENT=r.example/x/agent:7" in asked[1]
    assert capsys.readouterr().out.splitlines() == ["r.example/x/agent:7", "r.example/x/go:7"]
