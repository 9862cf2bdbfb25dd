"""Run as a program: becomes another one that can reach files below some folders only, by the kernel's Landlock.

A session may leave links in its bucket at any moment, and a server that follows one as this user would write anywhere.
Where the kernel has no Landlock that lets files be renamed between folders (before 5.19), the program runs as it is.

argv: the folders, `--`, the command.
"""

import contextlib
import ctypes
import os
import sys

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every machine
_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38
_RIGHTS = {2: 14, 3: 15}  # version: how many there are; later ones concern devices and sockets
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8
_SYSTEM = ("/usr", "/lib", "/lib64", "/nix/store", "/gnu/store")  # for a server that is not linked statically


class PathBeneath(ctypes.Structure):
    """struct landlock_path_beneath_attr of linux/landlock.h."""

    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def is_possible() -> bool:
    """Whether the kernel can."""
    return _version() >= min(_RIGHTS)


def _version() -> int:
    if sys.platform != "linux":
        return 0
    found: int = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return found


def confine(folders: list[str], program: str) -> None:
    """Raises OSError: the kernel can, and refused all the same."""
    libc, version = ctypes.CDLL(None, use_errno=True), _version()
    every = (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1
    ruleset = _checked(libc.syscall(_CREATE_RULESET, ctypes.byref(ctypes.c_uint64(every)), ctypes.c_size_t(8), 0))
    rights = dict.fromkeys(_SYSTEM, _EXECUTE | _READ_FILE | _READ_DIR)
    for path, allowed in (rights | {program: _EXECUTE | _READ_FILE} | dict.fromkeys(folders, every)).items():
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = PathBeneath(allowed, fd)
            _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
            os.close(fd)
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result


def main(arguments: list[str]) -> None:
    split = arguments.index("--")
    folders, command = arguments[:split], arguments[split + 1 :]
    if is_possible():
        confine(folders, command[0])
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
