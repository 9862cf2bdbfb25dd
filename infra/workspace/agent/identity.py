"""Whose workspace this is. An agent that was started ahead is nobody's until a session adopts it."""

import json
import os
from collections.abc import Mapping

from .errors import Refused, SettingsError
from .settings import for_commands

FILE = "adoption.json"


class Identity:
    """`environment`, what commands inherit, is one object for ever.

    `state`: a folder that outlives this process where the container is restarted: an adoption is remembered there.
    Raises SettingsError: what is remembered there is none.
    """

    def __init__(self, session_id: str, environment: Mapping[str, str], state: str | None = None) -> None:
        self.session_id = session_id
        self.environment = dict(environment)
        self._adopted = False
        self._file = state and os.path.join(state, FILE)  # noqa: PTH118 - pathlib costs 8 ms to import
        if self._file and os.path.exists(self._file):  # noqa: PTH110
            self._become(*_remembered(self._file))

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
        if self._file:
            _remember(self._file, session_id, environment)
        self._become(session_id, environment)
        return True

    def _become(self, session_id: str, environment: Mapping[str, str]) -> None:
        self._adopted = True
        self.session_id = session_id
        self.environment.update(for_commands(environment))


def _remember(file: str, session_id: str, environment: Mapping[str, str]) -> None:
    """Whole or not at all."""
    draft = f"{file}.{os.getpid()}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as target:
        json.dump({"session_id": session_id, "env": dict(environment)}, target)
    os.replace(draft, file)  # noqa: PTH105


def _remembered(file: str) -> tuple[str, Mapping[str, str]]:
    try:
        with open(file, encoding="utf-8") as source:  # noqa: PTH123
            kept = json.load(source)
        return str(kept["session_id"]), {str(name): str(value) for name, value in kept["env"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
        raise SettingsError(f"{file} cannot be used ({exc!r}); wanted an adoption, or no such file") from exc
