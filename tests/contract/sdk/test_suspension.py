"""Sessions that are suspended, resumed and moved, and jobs, over real HTTP: no command runs twice, none is lost."""

import pytest

import sdk.python as onmemos
from tests.contract.sdk.conftest import Face
from tests.contract.sdk.service import Answer, Fault, Stack
from tests.contract.sdk.test_faults import RESETS


@pytest.fixture
def session(direct: Face) -> Face:
    session: Face = direct.of(direct.target.sessions)("get", "ws-0")
    return session


def test_a_suspended_session_runs_nothing_until_it_is_resumed(session: Face, stack: Stack) -> None:
    session("execute", "a")
    assert session("suspend")["status"] == "suspended"
    assert session.target.ttl_left_seconds == 1800
    for call in (("execute", "b"), ("shell",)):
        with pytest.raises(onmemos.SessionSuspended, match=r"session.resume\(\)"):
            session(*call)
    assert session("resume")["status"] == "running"
    assert session("execute", "c")["stderr"] == "agent"
    assert (stack.agent.commands, stack.service.commands) == (["a", "c"], [])


def test_a_command_resumes_a_session_that_is_made_so(session: Face, stack: Stack) -> None:
    stack.service.sessions["ws-0"]["auto_resume"] = True
    session("suspend")
    assert session("execute", "a")["stderr"] == "agent"
    assert stack.service.sessions["ws-0"]["status"] == "running"


@pytest.mark.parametrize("turn", [("suspend_session", "ws-0"), ("move_session", "ws-0", "gke")], ids=lambda t: t[0])
@pytest.mark.parametrize("fault", RESETS)
def test_a_turn_outlives_a_passing_fault(direct: Face, stack: Stack, turn: tuple[str, ...], fault: Fault) -> None:
    stack.wire.script.append(fault)
    assert direct(*turn)["status"] in {"suspending", "moving"}


def test_a_session_is_found_where_it_moved(session: Face, stack: Stack) -> None:
    session("execute", "a")
    assert session("move", "gke")["provider"] == "gke"
    assert session("execute", "b")["stderr"] == "agent"
    assert [headers["authorization"] for headers in stack.agent.seen] == ["Bearer ticket-1", "Bearer ticket-2"]


def test_commands_go_by_the_service_while_the_session_is_moved_by_another(session: Face, stack: Stack) -> None:
    session("execute", "a")
    stack.agent.is_frozen = True
    assert session("execute", "b")["stderr"] == ""
    with session("shell") as shell:
        shell("execute", "pwd")
    stack.agent.is_frozen = False
    assert session("execute", "c")["stderr"] == "agent"
    assert (stack.agent.commands, stack.service.commands) == (["a", "c"], ["b", "pwd"])


@pytest.mark.parametrize("answer", [Answer(404), Answer(401)], ids=lambda answer: str(answer.status))
def test_an_agent_that_is_no_longer_there_is_sought_elsewhere_at_once(
    session: Face, stack: Stack, answer: Answer
) -> None:
    session("execute", "a")
    stack.agent_wire.script.append(answer)  # of what is at the old address now
    session("execute", "b")
    assert session("execute", "c")["stderr"] == "agent"
    assert sorted([*stack.agent.commands, *stack.service.commands]) == ["a", "b", "c"]
    assert stack.service.connects == 2


def test_a_shell_in_a_suspended_session_is_refused_by_the_relay_too(client: Face, direct: Face, stack: Stack) -> None:
    stack.service.sessions["ws-0"]["status"] = "suspended"
    for opening in ("open_shell", "open_terminal"):
        with pytest.raises(onmemos.SessionSuspended, match="the session is suspended"):
            client(opening, "ws-0")


def test_a_job_is_followed_to_its_end(session: Face, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdk.python.jobs.FIRST_LOOK_S", 0.01)
    stack.service.says.extend(["one\n", "", "two\n"])
    seen: list[str] = []
    jobs = session.of(session.target.jobs)
    job = jobs("create", "make", 7200, env={"A": "1"}, retries=1)
    assert job("wait", on_output=lambda stdout, _: seen.append(stdout))["returncode"] == 0
    assert (seen, job.target.output, job.target.state) == (["one\n", "two\n"], "one\ntwo\n", "succeeded")
    assert [it.id for it in jobs("list")] == ["job-0"]
    assert jobs("get", "job-0")("cancel")["state"] == "cancelled"
    with pytest.raises(onmemos.NotFound):
        jobs("get", "job-7")


@pytest.mark.parametrize("fault", RESETS)
def test_a_job_is_made_once_whatever_the_wire_does(session: Face, stack: Stack, fault: Fault) -> None:
    stack.wire.script.append(fault)
    assert session.of(session.target.jobs)("create", "make").target.id == "job-0"
    assert list(stack.service.jobs) == ["job-0"]
