"""The first program inside a container: sets the limits, starts the egress forwarder, becomes the agent or command.

argv: LIMITS EGRESS_PORT ATTENDANCE [COMMAND…]. LIMITS is `processes:file_bytes:data_bytes`, 0 = unlimited; EGRESS_PORT
0 = no forwarder. ATTENDANCE: none, plain, stdin or tty; all but none start the attendant, the last two give COMMAND an
input that the attendant holds. Without COMMAND it runs the agent in this very process, which saves a second
interpreter start. With tty this process becomes the attendant and COMMAND is its child: the container lasts until what
COMMAND printed is out of the terminal.
The agent's packages are put on sys.path here, so no PYTHONPATH is left for the session's commands to inherit.
"""

import os
import resource
import sys

AGENT_PARENT = "/opt/onmemos"
AGENT_PACKAGES = "/opt/onmemos/site-packages"
COMMAND_NOT_FOUND = 127


def main(arguments: list[str]) -> int:
    _check_lifeline()
    processes, file_bytes, data_bytes = map(int, arguments[0].split(":"))
    port = int(arguments[1])
    attendance = arguments[2]
    command = arguments[3:]
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_DATA, data_bytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The kernel counts processes per user namespace (since Linux 5.14): set inside, it counts this container only.
    _limit(resource.RLIMIT_NPROC, processes)
    if port and os.fork() == 0:
        _forward(port)
    if attendance == "tty":
        _attend_terminal()
    elif attendance != "none":
        _attend(attendance)
    if command:
        _default_signals()
        try:
            os.execvp(command[0], command)  # noqa: S606 - the command is the caller's own
        except OSError as exc:
            print(f"{command[0]}: {exc.strerror}", file=sys.stderr)  # noqa: T201
            return COMMAND_NOT_FOUND
    return _agent()


def _check_lifeline() -> None:
    """Stop here if whoever started the container is gone: its isolating program may have learned that too late.

    Standard input is a pipe that the runtime holds open; afterwards it is /dev/null.
    """
    if os.fstat(0).st_mode & 0o170000 == 0o010000:  # a pipe; `import stat` is not worth it
        os.set_blocking(0, False)
        try:
            if os.read(0, 1) == b"":
                os._exit(1)
        except BlockingIOError:
            pass
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)


def _limit(which: int, value: int) -> None:
    if value:
        _, hard = resource.getrlimit(which)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (wanted, wanted))


def _forward(port: int) -> None:
    sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - pathlib costs 8 ms to import
    try:
        import forwarder  # type: ignore[import-not-found]

        forwarder.serve(port, "/run/onmemos/egress.sock")
    finally:
        os._exit(1)


def _attend(attendance: str) -> None:
    """Start the attendant as nobody's child: the command must not find one that it did not start."""
    ours = theirs = -1
    if attendance == "stdin":
        theirs, ours = os.pipe()
    between = os.fork()
    if between == 0:
        if os.fork() == 0:
            if theirs >= 0:
                os.close(theirs)
            _serve(ours)
        os._exit(0)
    os.waitpid(between, 0)
    if theirs >= 0:
        os.close(ours)
        os.dup2(theirs, 0)
        os.close(theirs)


def _attend_terminal() -> None:
    """Become the attendant of a child that leads a terminal; only the child returns."""
    sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - as above
    import terminal  # type: ignore[import-not-found]

    del sys.path[0]
    terminal.lead(_serve)


def _serve(ours: int, command: int = 0, passed_on: tuple[int, ...] = ()) -> None:
    """Be the attendant. `ours` is our end of the command's input, -1 = none; `command` is a child with a terminal."""
    code = 1
    sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - as above
    try:
        import listening  # type: ignore[import-not-found]

        listener = listening.bind("/run/onmemos/attendant.sock")
        listening.call_process("attendant")
        if ours < 0:
            listening.wait(listener)
        import attendant  # type: ignore[import-not-found]
        import console  # type: ignore[import-not-found]

        held = console.Console(ours, command) if ours >= 0 else None
        code = attendant.Attendant(listener, held).serve(passed_on)
    finally:
        os._exit(code)


def _default_signals() -> None:
    """Python ignores these two, and what is ignored stays so in the program that this one becomes."""
    import _signal  # type: ignore[import-not-found]  # `signal` costs the import of enum

    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def _agent() -> int:
    sys.path[:0] = [AGENT_PARENT, AGENT_PACKAGES]
    os.environ.setdefault("ONMEMOS_AGENT_SOCKET", "/run/onmemos/agent.sock")
    import runpy

    sys.argv = ["agent"]
    runpy.run_module("agent", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
