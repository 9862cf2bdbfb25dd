#!/opt/onmemos/python/bin/python3 -IS
"""The image's entry point: makes the ground ready and becomes the agent, in this very process, which may be pid 1.

In an image of the user's own as little as possible need be prepared: a work folder that is missing is made, a home that
cannot be written to is not kept, and root is given up, for the agent is the session's user everywhere.
The agent's packages are put on sys.path here, so no PYTHONPATH is left for the session's commands to inherit.
"""

import _signal  # type: ignore[import-not-found]  # `signal` costs the import of enum, and all that follows is slower
import os
import sys

PORT = "8080"  # the agent's with every provider: shared/providers
USER_ID = 1000  # the session's user: shared/providers
WORKDIR = "/workspace"
CANNOT_START = 1


def main() -> None:
    # Pid 1 has no default action for TERM: one that comes before the agent listens for it would be lost.
    _signal.signal(_signal.SIGTERM, lambda *_: os._exit(0))
    workdir = os.environ.get("ONMEMOS_AGENT_WORKDIR") or WORKDIR
    try:
        _prepare(workdir)
    except OSError as exc:
        sys.stderr.write(f"agent: {workdir} cannot be made ready for user {USER_ID}: {exc}\n")
        sys.exit(CANNOT_START)
    os.environ.setdefault("PORT", PORT)
    if not os.access(os.environ.get("HOME", ""), os.W_OK):
        os.environ["HOME"] = workdir
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib costs 8 ms
    sys.path[:0] = [root, f"{root}/site-packages"]
    sys.argv = ["agent"]
    import runpy

    runpy.run_module("agent", run_name="__main__", alter_sys=True)


def _prepare(workdir: str) -> None:
    """The work folder is there; as root it is given to the session's user, who this process then is."""
    if not os.path.isdir(workdir):  # noqa: PTH112 - as above
        os.makedirs(workdir)  # noqa: PTH103
    if os.geteuid() != 0:
        return
    if os.stat(workdir).st_uid == 0:  # noqa: PTH116
        os.chown(workdir, USER_ID, USER_ID)
    os.setgroups([])
    os.setgid(USER_ID)
    os.setuid(USER_ID)


if __name__ == "__main__":
    main()
