"""Whose workspace this is. An agent that was started ahead is nobody's until a session adopts it."""

from collections.abc import Mapping

from .errors import Refused
from .settings import for_commands


class Identity:
    """`environment`, what commands inherit, is one object for ever."""

    def __init__(self, session_id: str, environment: Mapping[str, str]) -> None:
        self.session_id = session_id
        self.environment = dict(environment)
        self._adopted = False

    def adopt(self, session_id: str, environment: Mapping[str, str], *, used: bool) -> bool:
        """Become this session's, once; its environment is laid over what was there. The same again changes nothing.

        Whether anything was changed. Raises Refused: it is another's, or something has run in it already.
        """
        if self._adopted and session_id == self.session_id:
            return False
        if self._adopted:
            raise Refused("already_adopted", f"this workspace is {self.session_id}'s; wanted one that is nobody's")
        if used:
            raise Refused("workspace_in_use", "something has run in this workspace; wanted one that is nobody's")
        self._adopted = True
        self.session_id = session_id
        self.environment.update(for_commands(environment))
        return True
