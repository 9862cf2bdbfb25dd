"""The command `onmemos`: the API for people and for shell scripts.

Exit codes: a command's own where one ran; 125 where `run` or `exec` could not run it; 1 where the service refused;
2 for misuse; 130 on Ctrl-C.
"""

from typing import NoReturn


def main() -> NoReturn:
    """What the console script calls: reads sys.argv, ends the process."""
    from .root import root

    root.main(prog_name="onmemos")
    raise AssertionError("click ended without an exit code")
