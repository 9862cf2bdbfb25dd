"""A seccomp filter, assembled as classic BPF: a short list of what a session never needs and kernels got wrong.

Everything else is allowed: the namespaces and the missing capabilities are the wall, this lowers what can be tried
against it. The numbers are from the kernel's UAPI headers (asm/unistd.h, linux/seccomp.h, linux/audit.h).
"""

import errno
import platform
import struct
from dataclasses import dataclass

_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_AT_NR, _AT_ARCH, _AT_ARGS = 0, 4, 16

_CLONE_NEWUSER = 0x10000000
_S_ISUID = 0o4000
_X32_BIT = 0x40000000
# Unix, IPv4, IPv6, netlink. Others (vsock, Bluetooth, AF_ALG, …) know no network namespace or are attack surface.
_FAMILIES = (1, 2, 10, 16)

# io_uring, openat2 and clone3 take their flags from memory, where a filter cannot look: callers fall back on ENOSYS.
_NOT_THERE = ("io_uring_setup", "io_uring_enter", "io_uring_register", "openat2", "clone3")
_REFUSED = (
    "mount", "umount2", "pivot_root", "setns", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount",
    "fspick", "mount_setattr", "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd",
    "open_by_handle_at", "quotactl", "swapon", "swapoff", "kexec_load", "kexec_file_load", "init_module",
    "finit_module", "delete_module", "reboot", "acct", "settimeofday",
)  # fmt: skip
# A setuid file made here would, on the host's disk, belong to whoever runs the stack.
_MODE_ARGUMENT = {
    "chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "mknod": 1, "mknodat": 2,
}  # fmt: skip
_OPEN_FLAGS_ARGUMENT = {"open": 1, "openat": 2}
_CREATES = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE: without them the mode argument is whatever the register held
_FLAG_ARGUMENT = {"clone": 0, "unshare": 0}


@dataclass(frozen=True, slots=True)
class _Machine:
    audit_arch: int
    numbers: dict[str, int]


_COMMON = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "clone3": 435, "openat2": 437,
    "mount_setattr": 442, "fchmodat2": 452,
}  # fmt: skip
_X86_64 = {
    "open": 2, "socket": 41, "socketpair": 53, "clone": 56, "creat": 85, "chmod": 90, "fchmod": 91, "mknod": 133,
    "pivot_root": 155, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
    "reboot": 169, "init_module": 175, "delete_module": 176, "quotactl": 179, "kexec_load": 246, "add_key": 248,
    "request_key": 249, "keyctl": 250, "openat": 257, "mknodat": 259, "fchmodat": 268, "unshare": 272,
    "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308, "finit_module": 313, "kexec_file_load": 320,
    "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
_AARCH64 = {
    "mknodat": 33, "umount2": 39, "mount": 40, "pivot_root": 41, "fchmod": 52, "fchmodat": 53, "openat": 56,
    "quotactl": 60, "acct": 89, "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
    "reboot": 142, "settimeofday": 170, "socket": 198, "socketpair": 199, "add_key": 217, "request_key": 218,
    "keyctl": 219, "clone": 220, "swapon": 224, "swapoff": 225, "perf_event_open": 241, "open_by_handle_at": 265,
    "setns": 268, "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip
_MACHINES = {
    "x86_64": _Machine(0xC000003E, _COMMON | _X86_64),
    "aarch64": _Machine(0xC00000B7, _COMMON | _AARCH64),
}


def program(machine: str | None = None) -> bytes | None:
    """The filter as an array of `struct sock_filter`, as `bwrap --seccomp` reads it; None for an unknown machine."""
    known = _MACHINES.get(machine or platform.machine())
    return None if known is None else _assemble(known)


def _assemble(machine: _Machine) -> bytes:
    numbers = machine.numbers
    code = [
        _op(_LOAD, _AT_ARCH),
        _op(_JEQ, machine.audit_arch, skip_if_true=1),
        _deny(errno.ENOSYS),  # 32-bit system calls have other numbers
        _op(_LOAD, _AT_NR),
        _op(_JGE, _X32_BIT, skip_if_false=1),
        _deny(errno.ENOSYS),
    ]
    for name in _NOT_THERE:
        code += [_op(_JEQ, numbers[name], skip_if_false=1), _deny(errno.ENOSYS)]
    for name in _REFUSED:
        code += [_op(_JEQ, numbers[name], skip_if_false=1), _deny(errno.EPERM)]
    for name, argument in _MODE_ARGUMENT.items():
        code += _if_call(numbers.get(name), _bits(argument, _S_ISUID))
    for name, argument in _OPEN_FLAGS_ARGUMENT.items():
        code += _if_call(numbers.get(name), _if_set(argument, _CREATES, _bits(argument + 1, _S_ISUID)))
    for name, argument in _FLAG_ARGUMENT.items():
        code += _if_call(numbers.get(name), _bits(argument, _CLONE_NEWUSER))
    for name in ("socket", "socketpair"):
        code += _if_call(numbers.get(name), _families())
    return b"".join([*code, _op(_RET, _ALLOW)])


def _op(code: int, value: int, *, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, value)


def _deny(number: int) -> bytes:
    return _op(_RET, _ERRNO | number)


def _if_call(number: int | None, body: list[bytes]) -> list[bytes]:
    """`body` ends in a return, so the accumulator still holds the call's number for what follows."""
    return [] if number is None else [_op(_JEQ, number, skip_if_false=len(body)), *body]


def _bits(argument: int, bits: int) -> list[bytes]:
    return [
        _op(_LOAD, _AT_ARGS + 8 * argument),
        _op(_JSET, bits, skip_if_false=1),
        _deny(errno.EPERM),
        _op(_RET, _ALLOW),
    ]


def _if_set(argument: int, bits: int, body: list[bytes]) -> list[bytes]:
    return [
        _op(_LOAD, _AT_ARGS + 8 * argument),
        _op(_JSET, bits, skip_if_true=1),
        _op(_RET, _ALLOW),
        *body,
    ]


def _families() -> list[bytes]:
    last = len(_FAMILIES) - 1
    tests = [_op(_JEQ, family, skip_if_true=last - i + 1) for i, family in enumerate(_FAMILIES)]
    return [_op(_LOAD, _AT_ARGS), *tests, _deny(errno.EAFNOSUPPORT), _op(_RET, _ALLOW)]
