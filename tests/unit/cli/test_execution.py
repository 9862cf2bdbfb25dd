"""run and exec: output as it is, exit codes, what is sent, what is left behind."""

import json
from typing import Any

import pytest

from sdk.python.errors import ConnectionLost
from tests.unit.cli.invoking import SESSION, onmemos
from tests.unit.sdk.scripted import ok, refusal

ID = SESSION["id"]
DELETED = {"id": ID, "status": "deleting"}


def ran(stdout: str = "", stderr: str = "", returncode: int = 0, **more: Any) -> Any:
    return ok(stdout=stdout, stderr=stderr, returncode=returncode, success=returncode == 0, **more)


def test_run_creates_runs_deletes_and_gives_the_commands_output_and_code() -> None:
    called = onmemos("run", "python", "--", "false", turns=[ok(**SESSION), ran("out\n", "err\n", 7), ok(**DELETED)])
    assert (called.code, called.stdout, called.stderr) == (7, "out\n", "err\n")
    assert called.requests == [
        ("POST", "/v1/sessions"),
        ("POST", f"/v1/sessions/{ID}/execute"),
        ("DELETE", f"/v1/sessions/{ID}"),
    ]
    assert called.closed


def test_one_word_is_a_line_for_the_shell_and_several_are_an_argv() -> None:
    one = onmemos("exec", ID, "--", "ls | wc -l", turns=[ran()])
    several = onmemos("exec", ID, "--", "git", "log", "--", "-e", turns=[ran()])
    assert one.bodies == [{"command": "ls | wc -l", "timeout": 120.0}]
    assert several.bodies == [{"argv": ["git", "log", "--", "-e"], "timeout": 120.0}]


def test_output_is_written_byte_for_byte() -> None:
    called = onmemos("exec", ID, "--", "x", turns=[ran("\x1b[31mé\r\nno end")])
    assert called.stdout_bytes == "\x1b[31mé\r\nno end".encode()


def test_options_of_exec_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "1=2")
    words = ["--timeout", "2m", "--cwd", "src", "-e", "A=b=c", "-e", "FROM_HERE", "--stdin"]
    called = onmemos("exec", ID, *words, "--", "cat", turns=[ran()], stdin="typed")
    env = {"A": "b=c", "FROM_HERE": "1=2"}
    assert called.bodies == [{"command": "cat", "timeout": 120.0, "stdin": "typed", "cwd": "src", "env": env}]


def test_without_stdin_nothing_is_read() -> None:
    assert "stdin" not in onmemos("exec", ID, "--", "cat", turns=[ran()], stdin="typed").bodies[0]


def test_every_option_of_a_creation_is_sent() -> None:
    words = (
        "--namespace n --user u --provider gke --ttl 2h --idle-timeout 10 --expected-duration 90s --env A=1 "
        "--label k=v --cpu 2 --memory 4Gi --no-egress --long-lived --auto-resume --ssh --bucket b "
        "--mount-path /mnt --keep-bucket"
    )
    called = onmemos("run", "go", *words.split(), "--", "go", turns=[ok(**SESSION), ran(), ok(**DELETED)])
    assert called.bodies[0] == {
        "template": "go",
        "namespace": "n",
        "user": "u",
        "provider": "gke",
        "ttl_minutes": 120,
        "idle_timeout_minutes": 10,
        "expected_duration_minutes": 2,
        "env": {"A": "1"},
        "labels": {"k": "v"},
        "resources": {"cpu": 2.0, "memory": "4Gi"},
        "network": {"egress": False},
        "long_lived": True,
        "auto_resume": True,
        "needs_ssh": True,
        "storage": {"bucket": "b", "mount_path": "/mnt", "keep": True},
    }


@pytest.mark.parametrize(
    ("env", "namespace", "user"),
    [
        ({"LOGNAME": "jo"}, "default", "jo"),
        ({"LOGNAME": "Jo Döe+x", "ONMEMOS_NAMESPACE": "team"}, "team", "Jo-D-e-x"),
        ({"LOGNAME": "..@"}, "default", "user"),
        ({"LOGNAME": "n" * 99}, "default", "n" * 63),
    ],
)
def test_namespace_and_user_have_defaults_that_the_api_takes(env: dict[str, str], namespace: str, user: str) -> None:
    called = onmemos("run", "python", "--", "x", turns=[ok(**SESSION), ran(), ok(**DELETED)], env=env)
    assert called.bodies[0] == {"template": "python", "namespace": namespace, "user": user}


def test_a_session_to_keep_is_kept_and_said() -> None:
    called = onmemos("run", "python", "--keep", "--", "x", turns=[ok(**SESSION), ran()])
    assert called.code == 0
    assert ID in called.stderr
    assert [method for method, _ in called.requests] == ["POST", "POST"]


def test_a_command_that_could_not_be_run_is_125_and_the_session_is_deleted() -> None:
    called = onmemos("run", "python", "--", "x", turns=[ok(**SESSION), ConnectionLost("broke"), ok(**DELETED)])
    assert (called.code, called.stdout, called.stderr) == (125, "", "onmemos: broke\n")
    assert called.requests[-1] == ("DELETE", f"/v1/sessions/{ID}")


def test_a_session_that_could_not_be_made_is_125() -> None:
    bad = refusal(400, "cpu: got 99.0, wanted less", errors={"cpu": ["got 99.0, wanted less"]}, code="invalid_request")
    called = onmemos("run", "python", "--cpu", "99", "--", "x", turns=[bad])
    assert (called.code, called.stderr) == (125, "onmemos: cpu: got 99.0, wanted less (400 invalid_request)\n")


def test_a_session_that_failed_is_said_and_deleted() -> None:
    failed = ok(**{**SESSION, "status": "failed", "error": "no image"})
    called = onmemos("run", "python", "--", "x", turns=[failed, ok(**DELETED)])
    assert (called.code, called.stderr) == (125, f"onmemos: {ID} failed: no image\n")
    assert called.requests[-1][0] == "DELETE"


def test_a_session_that_cannot_be_deleted_is_said_and_the_code_stays_the_commands() -> None:
    called = onmemos("run", "python", "--", "x", turns=[ok(**SESSION), ran(returncode=3), refusal(500, "broken")])
    assert called.code == 3
    assert (
        called.stderr
        == f"onmemos: {ID} may still be there, until {SESSION['expires_at']} at the latest: broken (500)\n"
    )


def test_a_session_that_is_gone_by_itself_is_no_error() -> None:
    called = onmemos("run", "python", "--", "x", turns=[ok(**SESSION), ran(), refusal(404, "gone")])
    assert (called.code, called.stderr) == (0, "")


def test_exec_in_no_session_is_125() -> None:
    gone = refusal(404, "Session not found", code="session_not_found", headers={"X-Request-Id": "r1"})
    called = onmemos("exec", ID, "--", "x", turns=[gone])
    assert (called.code, called.stdout) == (125, "")
    assert called.stderr == "onmemos: Session not found (404 session_not_found, request r1)\n"


def test_time_that_ran_out_and_output_that_was_cut_are_said() -> None:
    called = onmemos("exec", ID, "--", "x", turns=[ran("some", returncode=124, timed_out=True, truncated=True)])
    assert (called.code, called.stdout) == (124, "some")
    assert "ran out of time" in called.stderr
    assert "was cut" in called.stderr


@pytest.mark.parametrize("words", [["--json", "exec", ID], ["exec", ID, "--json"]])
def test_json_holds_the_result_and_the_exit_code_is_the_commands(words: list[str]) -> None:
    called = onmemos(*words, "--", "x", turns=[ran("out", "err", 3)])
    assert (called.code, called.stderr) == (3, "")
    result = {"session": ID, "stdout": "out", "stderr": "err", "returncode": 3, "success": False}
    assert json.loads(called.stdout) == result


def test_input_that_is_no_text_is_refused_before_anything_is_made() -> None:
    called = onmemos("run", "python", "--stdin", "--", "x", stdin=b"a\xff")
    assert (called.code, called.requests) == (125, [])
    assert "not UTF-8" in called.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run", "python", "ls"], "behind --"),
        (["exec", ID, "ls", "-la"], "; the command to run goes behind --."),
        (["exec", ID], "Missing argument 'COMMAND...'"),
        (["exec", ID, "ls", "-e", "A=b"], "behind --"),
        (["run", "--", "x"], "Missing argument"),
        (
            ["run", "python", "--ttl", "soon", "--", "x"],
            "got 'soon', wanted minutes, or a number with one of s, m, h, d, w",
        ),
        (["run", "python", "--env", "=x", "--", "x"], "got '=x', wanted KEY=VALUE"),
        (["run", "python", "--env", "NOT_SET_HERE", "--", "x"], "which is not set here"),
        (["run", "python", "--label", "x", "--", "x"], "got 'x', wanted KEY=VALUE"),
        (["run", "python", "--provider", "moon", "--", "x"], "'moon' is not one of"),
        (["exec", "", "--", "x"], "got '', wanted an id"),
    ],
)
def test_misuse_is_2_and_nothing_is_sent(words: list[str], complaint: str) -> None:
    called = onmemos(*words)
    assert (called.code, called.stdout, called.requests) == (2, "", [])
    assert complaint in " ".join(called.stderr.split())
