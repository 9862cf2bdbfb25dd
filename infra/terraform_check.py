"""Checks terraform/ without a cloud: its format, its arguments against the providers' schemas, and its tests.

`python -m infra.terraform_check [ARGUMENT…]`; arguments go to `terraform test`. Needs nothing but the standard library
and Terraform, which takes its providers from where it is told to (TF_CLI_CONFIG_FILE) or from their registry. Touches
no backend and leaves nothing in the folder: neither .terraform nor a lock file that was not there.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "terraform"
WANTED = "Terraform 1.9 or newer: developer.hashicorp.com/terraform/install"


def check(folder: Path, arguments: Sequence[str] = ()) -> int:
    """The exit code of the first step that fails, which is named; 0: none did. 2: there is no Terraform."""
    terraform = shutil.which("terraform")
    if terraform is None:
        return _complain(f"got no terraform on PATH, wanted {WANTED}", 2)
    steps = (
        ("fmt", "-check", "-diff", "-recursive"),
        ("init", "-backend=false", "-input=false"),
        ("validate",),
        ("test", *arguments),
    )
    with tempfile.TemporaryDirectory(prefix="terraform-") as data, _as_it_was(folder / ".terraform.lock.hcl"):
        environment = {**os.environ, "TF_DATA_DIR": data, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        for step in steps:
            code = subprocess.call([terraform, f"-chdir={folder}", *step], env=environment)
            if code:
                return _complain(f"terraform {' '.join(step)} failed", code)
    return 0


@contextmanager
def _as_it_was(file: Path) -> Iterator[None]:
    before = file.read_bytes() if file.exists() else None
    try:
        yield
    finally:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(before)


def _complain(complaint: str, code: int) -> int:
    print(f"terraform_check: {complaint}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(check(FOLDER, sys.argv[1:]))
