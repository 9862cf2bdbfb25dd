"""Templates through the API: which there are, which cannot start here, and those of a deployment's own file."""

import asyncio
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from sdk.python.errors import BadRequest
from tests.e2e.conftest import running_stack, settings_in
from tests.e2e.remains import Remains
from tests.e2e.test_stack import starting

MISSING = "no-such-program-anywhere"
OWN = f"""
templates:
  ml:
    description: Models
    image: europe-docker.pkg.dev/my-project/onmemos/ml:1
    resources: {{cpu: 2, memory: 3Gi}}
    env: {{OMP_NUM_THREADS: "4", GREETING: "hello, it's me"}}
    requires: [python3]
  odd:
    description: Nothing without a program that is not here
    requires: [{MISSING}]
"""


@pytest.fixture
def mark() -> str:
    return f"m{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a file of templates."""
    folder = tmp_path_factory.mktemp("own")
    file = folder / "templates.yaml"
    file.write_text(OWN)
    with running_stack(settings_in(folder / "home", {"ONMEMOS_TEMPLATES_FILE": str(file)})) as stack:
        yield stack


def image_of(stack: Stack, service: str) -> str:
    async def asked() -> str:
        env = stack.environment
        where = f"projects/{env['GOOGLE_CLOUD_PROJECT']}/locations/{env['ONMEMOS_LOCATION']}/services/{service}"
        async with grpc.aio.insecure_channel(env["CLOUD_RUN_EMULATOR_HOST"]) as channel:
            client = run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel))
            return str((await client.get_service(name=where)).template.containers[0].image)

    return asyncio.run(asked())


def test_the_four_are_listed_with_what_a_session_of_them_gets(stack: Stack) -> None:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        templates = {one["name"]: one for one in client.list_templates()["templates"]}
    assert list(templates) == ["base", "python", "nodejs", "go"]
    assert templates["go"]["resources"] == {"cpu": 2, "memory": "4096Mi"}
    assert templates["go"]["image"] == "onmemos/workspace-go:local"
    assert templates["python"]["env"]["PYTHONUNBUFFERED"] == "1"
    for name in ("base", "python"):
        assert (templates[name]["available"], templates[name]["reason"]) == (True, None)


@pytest.mark.parametrize("name", ["nodejs", "go"])
def test_a_template_starts_with_its_program_or_says_that_it_is_missing(stack: Stack, mark: str, name: str) -> None:
    program = {"nodejs": "node", "go": "go"}[name]
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        (template,) = [one for one in client.list_templates()["templates"] if one["name"] == name]
        body = {"template": name, "namespace": mark, "user": "dev"}
        if shutil.which(program, path="/usr/local/bin:/usr/bin:/bin") or stack.sandbox["isolation"] == "docker":
            assert template["available"]
            session = client.create_session(body)
            client.execute_session(session["id"], f"{program} --version || {program} version", check=True)
            client.delete_session(session["id"])
            return
        reason = f"{program} is not installed on this machine; install it, or use ONMEMOS_SANDBOX=docker"
        assert not template["available"]
        assert reason in str(template["reason"])
        with pytest.raises(BadRequest, match="not installed on this machine") as refusal:
            client.create_session(body)
        assert list(refusal.value.errors) == ["template"]
        assert Remains(stack, mark).found() == {}


def test_a_template_of_the_deployments_own_gives_its_image_resources_and_environment(own: Stack, mark: str) -> None:
    with OnMemOSClient(own.base_url, own.api_key) as client:
        templates = {one["name"]: one for one in client.list_templates()["templates"]}
        assert list(templates) == ["base", "python", "nodejs", "go", "ml", "odd"]
        assert templates["ml"]["resources"] == {"cpu": 2, "memory": "3072Mi"}
        assert templates["ml"]["available"]
        body = {"template": "ml", "namespace": mark, "user": "dev", "env": {"OMP_NUM_THREADS": "2"}}
        session = client.create_session(body)
        try:
            shown = client.execute_session(session["id"], 'echo "$OMP_NUM_THREADS $GREETING"', check=True)
            assert shown["stdout"] == "2 hello, it's me\n"
            image = image_of(own, str(session["details"]["service_name"]))
            assert image == "europe-docker.pkg.dev/my-project/onmemos/ml:1"
            assert session["template"] == "ml"
        finally:
            client.delete_session(session["id"])


def test_a_program_that_an_own_template_requires_is_looked_for(own: Stack, mark: str) -> None:
    if own.sandbox["isolation"] == "docker":
        pytest.skip("with Docker a template's image has its programs")
    with OnMemOSClient(own.base_url, own.api_key) as client:
        with pytest.raises(BadRequest, match=f"{MISSING} is not installed on this machine"):
            client.create_session({"template": "odd", "namespace": mark, "user": "dev"})
        with pytest.raises(BadRequest, match="wanted one of base, python, nodejs, go, ml, odd"):
            client.create_session({"template": "ruby", "namespace": mark, "user": "dev"})


def test_the_env_file_says_the_same_to_every_reader(own: Stack) -> None:
    text = (own.home / "env").read_text(encoding="utf-8")
    assert f"ONMEMOS_TEMPLATES_FILE={own.settings.templates_file}\n" in text
    assert not any("'" in line or '"' in line for line in text.splitlines() if line.startswith("ONMEMOS_UNAVAILABLE"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("templates: {ml: {description: x, colour: red}}", "templates.ml.colour: unknown field"),
        ("templates: [", "is not YAML"),
        (None, "cannot read"),
    ],
)
def test_a_file_that_is_wrong_ends_the_start_with_a_sentence(tmp_path: Path, text: str | None, complaint: str) -> None:
    file = tmp_path / "templates.yaml"
    if text is not None:
        file.write_text(text)
    with starting(tmp_path / "home", ONMEMOS_TEMPLATES_FILE=str(file)) as up:
        up.read_until(complaint)
        assert up.process.wait(30) == 2
        assert str(file) in up.printed
        assert "Traceback" not in up.printed
