"""What can go wrong in the agent; only app.py knows which HTTP status each one is."""

from collections.abc import Mapping, Sequence


class AgentError(Exception):
    """Root of the agent's own errors. Its text is a sentence for the caller; `code` is stable."""

    code = "internal"


class SettingsError(AgentError):
    """The environment cannot be used; the text names the variable, the value seen and the value wanted."""


class BadRequest(AgentError):
    """The request cannot be carried out as it is written. `errors` maps a field to its complaints."""

    code = "bad_request"

    def __init__(self, detail: str, errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(detail)
        self.errors = {field: list(complaints) for field, complaints in (errors or {}).items()}

    @classmethod
    def field(cls, name: str, complaint: str) -> "BadRequest":
        """One field is wrong; `complaint` says what was seen and what is wanted."""
        return cls(f"{name}: {complaint}", {name: [complaint]})


class BadTicket(AgentError):
    """There is no ticket, or it does not open this session."""

    code = "bad_ticket"


class Exhausted(AgentError):
    """The workspace has no process, memory or file handle left. Nothing was run; trying again is safe."""

    code = "workspace_exhausted"

    @classmethod
    def because(cls, exc: OSError) -> "Exhausted":
        """In the kernel's words."""
        return cls(f"the workspace has no room for another process ({exc.strerror}): end some and try again")


class Stopping(AgentError):
    """The agent is going down and starts nothing new. Nothing was run."""

    code = "workspace_unreachable"  # what the control plane calls a workspace that was not there to run the command


class Frozen(AgentError):
    """The session's processes stand still and none is started. Nothing was run; trying again is safe."""

    code = "frozen"


class Restoring(AgentError):
    """The work folder is not all there yet, so nothing is started. Nothing was run; trying again is safe."""

    code = "restoring"


class Refused(AgentError):
    """What the workspace is by now does not allow it. `facts` go into the answer."""

    def __init__(self, code: str, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.code = code
        self.facts = facts


class Superseded(Refused):
    """Another part of a restore came while this one did; the newer one counts, and the client may send again."""

    def __init__(self) -> None:
        super().__init__("superseded", "another part came while this one did; wanted one at a time: send it again")


class Unreadable(Refused):
    """Something in the work folder is closed to the agent, and an archive without it would not be whole."""

    def __init__(self, named: Sequence[str], count: int) -> None:
        more = f" and {count - len(named)} more" if count > len(named) else ""
        detail = f"not readable in the work folder: {', '.join(named)}{more}; wanted files that the session's user owns"
        super().__init__("unreadable", detail, paths=list(named), count=count)


class BadArchive(BadRequest):
    """What was sent is not a tar that this agent restores."""

    code = "bad_archive"


class Full(AgentError):
    """The workspace has no space left for a file. The restore has to begin anew."""

    code = "workspace_full"


class CannotExecute(AgentError):
    """There is no such program (127), or it is one that cannot be executed (126), as a shell would say."""

    code = "cannot_execute"

    def __init__(self, program: str, reason: str, returncode: int) -> None:
        super().__init__(f"{program}: {reason}")
        self.returncode = returncode


class Abandoned(AgentError):
    """The client went away before the command ended; the command was killed and there is nobody to answer."""

    code = "abandoned"
