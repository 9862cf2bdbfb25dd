"""`onmemos jobs`: commands that outlive a request, beside their session."""

import shlex
from typing import TYPE_CHECKING

import click

from ..errors import OnMemOSError
from .complaints import INTERRUPTED, NOT_RUN, NotRun, complain, complaining, sentence
from .grammar import Carrier, Group, examples, spoken
from .invocation import Invocation, json_option, pass_invocation
from .names import job_argument, session_argument
from .output import note, since, written
from .progress import waiting
from .values import Duration, Pair

if TYPE_CHECKING:
    from ..jobs import Job
    from ..shapes import JobDict

TIMED_OUT = 124  # as timeout(1)
MAX_RETRIES = 10
OUTPUT_FOLDER = ".onmemos/jobs"  # of the session's bucket


@click.group(cls=Group, short_help="Run commands that take hours or days.")
def jobs() -> None:
    """Jobs: commands that take up to a week.

    They run beside the session, in its image and with its bucket at /data; they do not see its /workspace. They end
    with the session.
    """


@jobs.command(
    cls=Carrier,
    epilog=examples(
        "onmemos jobs run ws-demo-me-1756062811 --timeout 12h -- python /data/train.py",
        "JOB=$(onmemos jobs run ws-demo-me-1756062811 --detach -- 'make -C /data all')",
    ),
)
@session_argument
@click.option(
    "--timeout",
    type=Duration("s"),
    default=3600.0,
    metavar="TIME",
    help="How long each attempt may take: 90 (seconds), 12h, 7d. [1h]",
)
@click.option(
    "--retries", type=click.IntRange(0, MAX_RETRIES), default=0, metavar="N", help="How often to try again. [0]"
)
@click.option(
    "--env", "-e", type=Pair(inherits=True), multiple=True, metavar="K=V", help="A variable; K alone: as it is here."
)
@click.option("--detach/--follow", help="Print its id and leave it running; or its output, until it ends. [--follow]")
@json_option
@click.argument("command", nargs=-1, required=True, metavar="COMMAND...")
@pass_invocation
def run(
    invocation: Invocation,
    *,
    session_id: str,
    timeout: float,
    retries: int,
    env: tuple[tuple[str, str], ...],
    detach: bool,
    command: tuple[str, ...],
) -> None:
    """Run a command as a job, and follow its output.

    One word is a line for the shell; several are a program and its arguments. Ctrl-C leaves the job running. The exit
    code is the command's, 124 when its time was up, or 125 if it could not be run.
    """
    try:
        with complaining(NotRun), waiting(f"starting a job of {session_id}"):
            session = invocation.client.sessions.get(session_id)
            job = session.jobs.create(timeout=timeout, retries=retries, env=dict(env) or None, **spoken(command))
    except KeyboardInterrupt:
        note(f"whether it was started, onmemos jobs ls {session_id} shows")
        raise
    if detach:
        invocation.output.words(job.info, job.id)
        return
    note(f"{job.id} runs, and goes on after Ctrl-C")
    raise click.exceptions.Exit(_followed(invocation, job))


@jobs.command(epilog=examples("onmemos jobs ls ws-demo-me-1756062811"))
@session_argument
@json_option
@pass_invocation
def ls(invocation: Invocation, *, session_id: str) -> None:
    """List the jobs of a session."""
    columns = {
        "ID": lambda job: job["id"],
        "STATE": lambda job: job["state"],
        "CODE": lambda job: job["returncode"],
        "ATTEMPTS": lambda job: job["attempts"],
        "AGE": lambda job: since(job["created_at"]),
        "COMMAND": _command,
    }
    invocation.output.table(list(invocation.client.iter_jobs(session_id)), columns)


@jobs.command(epilog=examples("onmemos jobs get ws-demo-me-1756062811 job-1f6c"))
@session_argument
@job_argument
@json_option
@pass_invocation
def get(invocation: Invocation, *, session_id: str, job_id: str) -> None:
    """Show a job as it is now."""
    job = invocation.client.get_job(session_id, job_id)
    facts = {
        "id": job["id"],
        "session": job["session_id"],
        "state": job["state"],
        "exit code": job["returncode"],
        "error": job["error"],
        "command": _command(job),
        "timeout": f"{job['timeout']:g} s",
        "attempts": f"{job['attempts']} of {job['retries'] + 1}",
        "created": f"{job['created_at']} ({since(job['created_at'])} ago)",
        "started": job["started_at"],
        "finished": job["finished_at"],
        "output": f"{OUTPUT_FOLDER}/{job['id']}/ in the session's bucket",
    }
    invocation.output.facts(job, facts)


@jobs.command(epilog=examples("onmemos jobs logs ws-demo-me-1756062811 job-1f6c -f"))
@session_argument
@job_argument
@click.option("--follow", "-f", is_flag=True, help="Until it ends; the exit code is the command's.")
@json_option
@pass_invocation
def logs(invocation: Invocation, *, session_id: str, job_id: str, follow: bool) -> None:
    """Print what a job has written."""
    if follow:
        raise click.exceptions.Exit(_followed(invocation, _job(invocation, session_id, job_id)))
    job = invocation.client.get_job(session_id, job_id)
    if invocation.output.as_json:
        invocation.output.json(job)
        return
    written(job.get("stdout", ""), job.get("stderr", ""))
    _tell_of_the_rest(job)


@jobs.command(epilog=examples("onmemos jobs cancel ws-demo-me-1756062811 job-1f6c"))
@session_argument
@job_argument
@json_option
@pass_invocation
def cancel(invocation: Invocation, *, session_id: str, job_id: str) -> None:
    """End a job."""
    job = invocation.client.cancel_job(session_id, job_id)
    invocation.output.words(job, job["id"])
    note(job["state"])


def _job(invocation: Invocation, session_id: str, job_id: str) -> "Job":
    return invocation.client.sessions.get(session_id).jobs.get(job_id)


def _followed(invocation: Invocation, job: "Job") -> int:
    """The exit code, once the job is over and its output is written."""
    as_json = invocation.output.as_json
    try:
        info = job.wait(on_output=None if as_json else written)
    except KeyboardInterrupt:
        click.echo(err=True)  # the terminal has ^C in its line
        _tell_how_to_go_on(job)
        return INTERRUPTED
    except OnMemOSError as exc:
        complain(sentence(exc))
        _tell_how_to_go_on(job)
        return NOT_RUN
    if as_json:
        invocation.output.json(info)
    else:
        _tell_of_the_rest(info)
        _tell_of_the_end(info)
    return _code(info)


def _tell_how_to_go_on(job: "Job") -> None:
    note(f"{job.id} goes on: onmemos jobs logs {job.session_id} {job.id} -f follows it again,")
    note(f"onmemos jobs cancel {job.session_id} {job.id} ends it")


def _tell_of_the_rest(job: "JobDict") -> None:
    if job.get("truncated"):
        complain(f"only the newest is shown; all of it is in the session's bucket at {OUTPUT_FOLDER}/{job['id']}/")


def _tell_of_the_end(job: "JobDict") -> None:
    if job["state"] == "timed_out":
        complain(f"{job['id']} ran out of time and was ended; --timeout gives it more")
    elif job["state"] == "cancelled" or job["error"]:
        complain(f"{job['id']} {job['state']}{': ' if job['error'] else ''}{job['error'] or ''}")


def _code(job: "JobDict") -> int:
    if job["returncode"] is not None:
        return job["returncode"]
    return {"succeeded": 0, "timed_out": TIMED_OUT}.get(job["state"], NOT_RUN)


def _command(job: "JobDict") -> str:
    return job.get("command") or shlex.join(job.get("argv") or [])
