"""Run as a program by root: gives a container its own host uid, then becomes bubblewrap as that ordinary user.

A uid of its own cannot enter root's folders, so every folder that the container shows is first put below STAGE in a
mount namespace that only this process has. Folders are idmapped: what their owner owns on disk belongs to the
container's uid in its view, and what it writes is the owner's on disk, so nothing has to be chowned back.

argv: the number of a descriptor with a marshalled `Plan`.
"""

import contextlib
import ctypes
import marshal
import os
import signal
import sys

STAGE = "/mnt"  # must exist and be enterable by all; what it held is hidden in this namespace only

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_REC, _MS_SLAVE, _MS_NOSUID, _MS_NODEV = 0x4000, 0x80000, 2, 4
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every machine
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_MOUNT_ATTR_IDMAP = 0x100000
_PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


class MountAttributes(ctypes.Structure):
    """struct mount_attr of linux/mount.h."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def main(plan_fd: int) -> None:
    with os.fdopen(plan_fd, "rb") as file:
        parent, uid, binds, argv = marshal.load(file)  # noqa: S302 - written by our own parent
    stage(uid, binds)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    check(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")  # after the ids: their change clears it
    if os.getppid() != parent:
        sys.exit("the runtime that asked for this container is gone")
    os.execv(argv[0], argv)  # noqa: S606


def stage(uid: int, binds: list[tuple[str, str, bool, bool]]) -> None:
    """Put each (source, name below STAGE, read_only, private) up; a private one is shown as owned by `uid`."""
    check(libc.unshare(_CLONE_NEWNS), "unshare of the mount namespace")
    check(libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "mount --make-rslave /")
    trees = [clone_tree(source) for source, _, _, _ in binds]
    namespaces: dict[tuple[int, int], int] = {}
    for (source, _, read_only, private), tree in zip(binds, trees, strict=True):
        if private:
            own(source, tree, uid, namespaces, read_only=read_only)
    size = b"mode=0755,size=1m"
    check(libc.mount(b"onmemos", STAGE.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, size), f"tmpfs on {STAGE}")
    for (source, name, _, _), tree in zip(binds, trees, strict=True):
        target = f"{STAGE}/{name}"
        if os.path.isdir(source):  # noqa: PTH112 - pathlib costs 8 ms to import
            os.makedirs(target, mode=0o755)  # noqa: PTH103
        else:
            os.makedirs(target.rpartition("/")[0], mode=0o755, exist_ok=True)  # noqa: PTH103
            os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC, 0o444))
        moved = libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
        check(moved, f"mount of {source}")
        os.close(tree)


def clone_tree(source: str) -> int:
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    return check(libc.syscall(_OPEN_TREE, _AT_FDCWD, source.encode(), flags), f"open_tree of {source}")


def own(source: str, tree: int, uid: int, namespaces: dict[tuple[int, int], int], *, read_only: bool) -> None:
    """Show `tree` as owned by `uid`; where the file system cannot be idmapped, change its owner on disk."""
    status = os.stat(source)  # noqa: PTH116
    owner = (status.st_uid, status.st_gid)
    if owner not in namespaces:
        namespaces[owner] = mapping(owner, uid)
    attributes = MountAttributes(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=namespaces[owner])
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    size = ctypes.sizeof(attributes)
    if libc.syscall(_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attributes), size) == 0:
        return
    if not read_only:
        change_owner(source, uid)


def mapping(owner: tuple[int, int], uid: int) -> int:
    """A user namespace in which `owner` stands for `uid`; the descriptor keeps it after its only process ended."""
    ready, announce = os.pipe()
    child = os.fork()
    if child == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.unshare(_CLONE_NEWUSER)
        os.write(announce, b"x")
        signal.pause()
    os.read(ready, 1)
    try:
        for kind, number in zip(("uid", "gid"), owner, strict=True):
            with open(f"/proc/{child}/{kind}_map", "w") as file:  # noqa: PTH123
                file.write(f"{number} {uid} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(announce)


def change_owner(folder: str, uid: int) -> None:
    """Without following links: what is in the folder was written by a session."""
    for _, folders, files, fd in os.fwalk(folder):
        os.fchown(fd, uid, uid)
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                os.chown(name, uid, uid, dir_fd=fd, follow_symlinks=False)


def check(result: int, act: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{act}: {os.strerror(number)}")
    return result


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except OSError as exc:
        sys.exit(str(exc))
