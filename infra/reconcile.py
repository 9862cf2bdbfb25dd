"""Puts right what crashes left behind: `python -m infra.reconcile`; in the cloud, a Cloud Run job on a schedule."""

import argparse
import asyncio
import sys
from contextlib import aclosing

from shared.config import ConfigError, Settings
from shared.errors import OnMemOSError
from shared.logs import configure
from shared.wiring import Services


async def reconcile(settings: Settings, *, dry_run: bool) -> int:
    """Do it, a line for each action on standard output; how many actions there were."""
    app = Services(settings)
    count = 0
    try:
        async with aclosing(app.reconciler.run(dry_run=dry_run)) as actions:
            async for action in actions:
                count += 1
                print(f"{'would ' if dry_run else ''}{action.deed}: {action.target} ({action.reason})", flush=True)  # noqa: T201
    finally:
        await app.close()
    print(f"{count} action{'' if count == 1 else 's'}{' to do' if dry_run else ' done'}")  # noqa: T201
    return count


def main() -> None:
    """Exit code 0: all is right now. 1: something did not answer; run it again. 2: a setting is wrong."""
    parser = argparse.ArgumentParser(prog="python -m infra.reconcile", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    options = parser.parse_args()
    configure()
    try:
        asyncio.run(reconcile(Settings.from_environment(), dry_run=options.dry_run))
    except ConfigError as exc:
        sys.exit(_complain(exc, 2))
    except OnMemOSError as exc:
        sys.exit(_complain(exc, 1))


def _complain(exc: Exception, code: int) -> int:
    print(f"reconcile: {exc}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
