"""Which templates can start on this machine: except with Docker, a session has the programs that are installed here."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from infra.local.settings import Sandbox
from infra.sandbox.rootfs import SYSTEM_PATH, Bind, system
from shared.templates import OURS, Template

OF_EVERY_SESSION = frozenset({"python", "python3", "pip", "pip3"})  # infra.sandbox.python brings them


def templates(own: Path | None) -> tuple[Template, ...]:
    """Ours, and those of a deployment's file, which take the place of ours of the same name. Raises ConfigError."""
    if own is None:
        return OURS
    from shared.template_file import read_templates  # YAML and its schemas, for those who have such a file

    theirs = read_templates(str(own))
    names = {template.name for template in theirs}
    return (*(template for template in OURS if template.name not in names), *theirs)


def unavailable(found: Iterable[Template], isolation: str, path: str = SYSTEM_PATH) -> dict[str, str]:
    """Why templates cannot start, by name. `isolation` is a sandbox's own word for what it is."""
    if isolation == Sandbox.DOCKER:
        return {}
    shown = [entry.source for entry in system() if isinstance(entry, Bind)]
    reasons = {}
    for template in found:
        missing = [one for one in template.requires if one not in OF_EVERY_SESSION and not _is_shown(one, path, shown)]
        if missing:
            verb, them = ("is", "it") if len(missing) == 1 else ("are", "them")
            reasons[template.name] = (
                f"{' and '.join(missing)} {verb} not installed on this machine; install {them}, "
                "or use ONMEMOS_SANDBOX=docker, which runs the template's image"
            )
    return reasons


def _is_shown(program: str, path: str, shown: list[str]) -> bool:
    """Whether a session finds the program, and what it may be a link to."""
    found = shutil.which(program, path=path)
    return found is not None and any(Path(found).resolve().is_relative_to(Path(one).resolve()) for one in shown)
