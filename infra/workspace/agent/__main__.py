"""`python -m agent`: read the environment, serve until SIGTERM, exit 0. A wrong environment exits 2 and says why."""

import os
import sys

from .errors import SettingsError
from .loading import UNUSED, without
from .settings import Settings

WRONG_SETTINGS = 2


def main() -> int:
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as exc:
        sys.stderr.write(f"agent: {exc}\n")
        return WRONG_SETTINGS
    without(*UNUSED)
    from .server import run

    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
