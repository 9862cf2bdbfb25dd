"""`python -m infra.openapi` writes what others read of the route table; with --check it says what is stale."""

import argparse
import difflib
import json
import sys
from pathlib import Path
from typing import Any

from infra.openapi.document import document
from infra.openapi.firebase import functions_yaml
from infra.openapi.maps import functions, queues
from infra.openapi.reference import reference

ROOT = Path(__file__).parents[2]
SHOWN_LINES = 20


def files() -> dict[str, str]:
    """What each file should hold, by its path in the repository."""
    api = document()
    return {
        "terraform/openapi.json": _json(api),
        "terraform/functions.json": _json(functions()),
        "terraform/queues.json": _json(queues()),
        "docs/api.md": reference(api),
        "functions.yaml": functions_yaml(),
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def stale(root: Path) -> dict[str, str]:
    """Of each file that is not what it should be: how it differs."""
    return {path: found for path, wanted in files().items() if (found := _difference(root / path, wanted))}


def _difference(path: Path, wanted: str) -> str:
    if not path.exists():
        return "is not there"
    lines = difflib.unified_diff(
        path.read_text("utf-8").splitlines(), wanted.splitlines(), "as it is", "as it should be", "", "", 1, ""
    )
    shown = list(lines)
    more = [f"… and {len(shown) - SHOWN_LINES} lines more"] if len(shown) > SHOWN_LINES else []
    return "\n".join(shown[:SHOWN_LINES] + more)


def main() -> None:
    """Exit code 0: every file is what it should be. 1, only with --check: some are not, and are named."""
    parser = argparse.ArgumentParser(prog="python -m infra.openapi", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is stale")
    options = parser.parse_args()
    if options.check:
        found = stale(ROOT)
        for path, difference in found.items():
            print(f"{path}: stale; run python -m infra.openapi\n{difference}", file=sys.stderr)  # noqa: T201
        sys.exit(1 if found else 0)
    for path, text in files().items():
        (ROOT / path).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
