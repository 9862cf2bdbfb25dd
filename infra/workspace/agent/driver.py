"""What a shell is given to read, so that it runs one command after another and says how each one went. Pure.

The shell reads a script from descriptor SCRIPT, which is a pipe; each command is one line of it: `eval` of a quoted
string, then the status and the folder, written to descriptor CONTROL, which the command itself does not have.

SIGINT to the shell abandons the line that runs, as in an interactive shell, and keeps the state. In bash the trap makes
the debugger's hook skip every command up to the status. In a POSIX shell it raises an error (an unset `${x?}`), which
`command eval` survives. A signal that comes too early skips the command; what one that came too late has left behind,
`recovery` takes away.
"""

from collections.abc import Callable
from dataclasses import dataclass

SCRIPT = 3
CONTROL = 9
FILE = f"/dev/fd/{SCRIPT}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to speak to one kind of shell. `opening` is the script's start; each text is whole lines."""

    name: str
    argv: tuple[str, ...]
    opening: str
    command: Callable[[str], str]
    recovery: str


def quoted(text: str) -> str:
    """One word of any POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def status(answer: bytes) -> tuple[int, str]:
    """The exit code and the folder of one answer (without its closing NUL). Raises ValueError."""
    code, _, folder = answer.partition(b" ")
    return int(code), folder.decode(errors="replace")


def _bash_command(line: str) -> str:
    # All in one line: after a syntax error in eval, bash would misread a reserved word on the next one.
    return f"\\command \\eval {quoted(line)} {CONTROL}>&-;{{ {_BASH_STATUS} >&{CONTROL}; }} 2>/dev/null\n"


def _sh_command(line: str) -> str:
    # __onmemos: 1 while a command runs, 2 when SIGINT came before it. Only at 1 may the trap fail.
    return (
        f"case ${{__onmemos=1}} in 1) \\command \\eval {quoted(line)} {CONTROL}>&-;; esac;{{ __onmemos_s=$?;"
        f'unset __onmemos;\\command \\printf \'%s %s\\0\' "$__onmemos_s" "${{PWD-}}" >&{CONTROL}; }} 2>/dev/null\n'
    )


_BASH_STATUS = r"""\command \printf '%d %s\0' "$?" "${PWD-}" """.strip()
_BASH_SKIP = (
    "case $BASH_COMMAND in '\\command \\printf'*) trap - DEBUG;shopt -u extdebug;set +T;; *) ! break 9999;; esac"
    " 2>/dev/null"
)
_BASH_INTERRUPT = f"shopt -s extdebug;set -T;trap {quoted(_BASH_SKIP)} DEBUG"
_SH_INTERRUPT = '{ case ${__onmemos=2} in 1) : "${__onmemos_interrupted?}";; esac; } 2>/dev/null'

BASH = Dialect(
    name="bash",
    argv=("bash", "--noprofile", "--norc", FILE),
    opening=f"exec {SCRIPT}<&-\nBASH_ARGV0=bash\ntrap {quoted(_BASH_INTERRUPT)} INT\n",
    command=_bash_command,
    recovery="{ \\command \\printf ''; } 2>/dev/null\n",
)
SH = Dialect(
    name="sh",
    argv=("/bin/sh", FILE),
    opening=f"exec {SCRIPT}<&-\ntrap {quoted(_SH_INTERRUPT)} INT\n",
    command=_sh_command,
    recovery="{ unset __onmemos; } 2>/dev/null\n",
)
