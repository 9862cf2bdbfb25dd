"""What is costly to make and follows from the code alone: kept in the user's cache folder."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def kept(
    name: str,
    modules: Iterable[ModuleType],
    versions: Iterable[str],
    make: Callable[[], Any],
    *,
    environ: Mapping[str, str] = os.environ,
) -> Any:
    """What `make` returns, which is JSON: made anew when the sources of `modules` or `versions` are not the same.

    Where there is no such folder, or nobody may write in it, nothing is kept.
    """
    folder = _folder(environ)
    if folder is None:
        return make()
    sources = [Path(module.__file__ or "").read_bytes() for module in modules]
    key = hashlib.sha256(b"\0".join([*sources, *(version.encode() for version in versions)])).hexdigest()[:16]
    path = folder / f"{name}.{key}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_bytes())
    made = make()
    with contextlib.suppress(OSError):
        _write(path, json.dumps(made).encode())
        for former in path.parent.glob(f"{name}.*.json"):
            if former != path:
                former.unlink(missing_ok=True)
    return made


def _folder(environ: Mapping[str, str]) -> Path | None:
    """specifications.freedesktop.org/basedir-spec"""
    if caches := environ.get("XDG_CACHE_HOME"):
        return Path(caches, "onmemos")
    return Path(home, ".cache", "onmemos") if (home := environ.get("HOME")) else None


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)
