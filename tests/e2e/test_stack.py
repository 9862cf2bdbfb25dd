"""The stack as a program: `python -m infra.local up` starts it, and whatever ends it leaves nothing behind."""

import contextlib
import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from infra.emulators.firestore_official import find_official
from infra.local import ports
from infra.local.settings import ANY_PORTS, PORT_VARIABLES, PROJECT, Firestore, Ports, Settings
from sdk.python.client import OnMemOSClient
from tests.e2e.conftest import running_stack, settings_in

PATIENCE_S = 60


class Up:
    """A stack that runs as a program of its own."""

    def __init__(self, home: Path, process: subprocess.Popen[str]) -> None:
        self.settings = Settings(home=home)
        self.process = process
        self.printed = ""

    def read_until(self, text: str) -> None:
        assert self.process.stdout is not None
        while text not in self.printed:
            line = self.process.stdout.readline()
            assert line, f"it ended with {self.process.wait(PATIENCE_S)} without saying {text!r}: {self.printed}"
            self.printed += line

    def environment(self) -> dict[str, str]:
        lines = self.settings.env_file.read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def below(self) -> list[psutil.Process]:
        """Every process that it started, sandboxes included."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.printed += self.process.stdout.read()
        return code


def environment_for(home: Path, **variables: str) -> dict[str, str]:
    free = dict.fromkeys(PORT_VARIABLES.values(), "0")
    return {**os.environ, **free, "ONMEMOS_HOME": str(home), "ONMEMOS_FIRESTORE": "embedded", **variables}


@contextmanager
def starting(home: Path, **variables: str) -> Iterator[Up]:
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.local", "up"], cwd=PROJECT, env=environment_for(home, **variables),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield Up(home, process)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with starting(tmp_path) as up:
        up.read_until("Ctrl-C")
        yield up


def unused_port() -> int:
    """One that stays free until it is taken by whoever was told of it: the kernel gives others none below 32,768."""
    for port in random.sample(range(20_000, 32_000), 50):
        with contextlib.suppress(ports.PortTaken):
            return ports.free(dataclasses.replace(ANY_PORTS, gateway=port), "gateway")
    raise AssertionError("50 ports are taken")


@pytest.fixture(scope="module")
def chosen() -> Ports:
    """Two that are free."""
    return dataclasses.replace(ANY_PORTS, gateway=unused_port(), emulators=unused_port())


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, chosen: Ports) -> Iterator[Up]:
    """One for the tests that leave it as they found it, on the chosen ports."""
    variables = {PORT_VARIABLES[name]: str(port) for name, port in dataclasses.asdict(chosen).items()}
    with starting(tmp_path_factory.mktemp("lasting"), **variables) as lasting:
        lasting.read_until("Ctrl-C")
        yield lasting


def new_session(environment: Mapping[str, str]) -> str:
    with OnMemOSClient(environment["ONMEMOS_URL"], environment["ONMEMOS_API_KEY"]) as client:
        session = client.create_session(template="python", namespace="stack", user="dev")
        client.execute_session(session["id"], "echo kept > note", check=True)
        return session["id"]


def assert_nothing_is_left(up: Up, processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, PATIENCE_S)
    assert alive == []
    assert not up.settings.runtime.exists()
    assert not up.settings.env_file.exists()


def test_it_says_how_to_use_it_and_everything_in_its_env_file_answers(lasting: Up) -> None:
    environment = lasting.environment()
    port = httpx.URL(environment["ONMEMOS_URL"]).port
    assert f"http://localhost:{port}" in lasting.printed
    assert "curl -X POST" in lasting.printed
    assert "your-api-key" in lasting.printed
    assert httpx.get(f"{environment['ONMEMOS_URL']}/health").json()["status"] == "healthy"
    for name, value in environment.items():
        if name.endswith("_EMULATOR_HOST"):
            host, _, port_text = value.rpartition("/")[2].partition(":")
            with closing(socket.create_connection((host, int(port_text)), timeout=5)):
                assert host == "127.0.0.1"
    assert httpx.get(environment["ONMEMOS_OIDC_CERTS_URL"]).json()["keys"]


def test_it_listens_on_the_loopback_alone(lasting: Up) -> None:
    processes = [psutil.Process(lasting.process.pid), *lasting.below()]
    addresses = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert addresses


def test_ports_can_be_chosen(lasting: Up, chosen: Ports) -> None:
    environment = lasting.environment()
    assert environment["ONMEMOS_URL"] == f"http://127.0.0.1:{chosen.gateway}"
    assert environment["CLOUD_RUN_EMULATOR_HOST"] == f"127.0.0.1:{chosen.emulators}"


def test_a_second_stack_in_the_same_home_is_refused(lasting: Up) -> None:
    with starting(lasting.settings.home) as second:
        second.read_until("a stack runs in")
        assert second.process.wait(PATIENCE_S) == 1
    assert httpx.get(f"{lasting.environment()['ONMEMOS_URL']}/health").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(up: Up, number: signal.Signals) -> None:
    new_session(up.environment())
    processes = up.below()
    assert up.end(number) == 0
    assert_nothing_is_left(up, processes)


def test_when_it_is_killed_nothing_outlives_it_and_it_can_start_again_at_once(up: Up) -> None:
    new_session(up.environment())
    processes = up.below()
    up.end(signal.SIGKILL)
    with starting(up.settings.home) as again:
        again.read_until("Ctrl-C")
        assert again.end(signal.SIGTERM) == 0
    assert_nothing_is_left(up, processes)


def test_a_process_that_dies_ends_the_stack_and_is_named(up: Up) -> None:
    processes = up.below()
    storage = next(process for process in processes if "fake-gcs-server" in process.name())
    storage.kill()
    assert up.process.wait(PATIENCE_S) == 1
    up.read_until("storage ended by itself (signal SIGKILL)")
    assert_nothing_is_left(up, processes)


def test_a_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        port = str(holder.getsockname()[1])
        with starting(tmp_path, ONMEMOS_PORT=port) as up:
            up.read_until(f"port {port} is taken")
            up.read_until("ONMEMOS_PORT")
            assert up.process.wait(PATIENCE_S) == 1


@pytest.mark.parametrize("kind", [Firestore.EMBEDDED, Firestore.OFFICIAL])
def test_a_restart_keeps_the_sessions_and_their_files(tmp_path: Path, kind: Firestore) -> None:
    if kind is Firestore.OFFICIAL and find_official({**os.environ, "FIRESTORE_EMULATOR_HOST": ""}) is None:
        pytest.skip("no Java here, or no emulator of Google's")
    chosen = settings_in(tmp_path, {"ONMEMOS_FIRESTORE": kind, "FIRESTORE_EMULATOR_HOST": ""})
    # A session's URL is the gateway's, so that comes back at the same port.
    chosen = dataclasses.replace(chosen, ports=dataclasses.replace(chosen.ports, gateway=unused_port()))
    with running_stack(chosen) as stack:
        session_id = new_session(stack.environment)
    with running_stack(chosen) as stack, OnMemOSClient(stack.base_url, stack.api_key) as client:
        assert client.execute_session(session_id, "cat note")["stdout"] == "kept\n"
        session = client.get_session(session_id)
        assert (session["status"], session["details"]["boots"]) == ("running", 2), json.dumps(session)
        client.delete_session(session_id)
