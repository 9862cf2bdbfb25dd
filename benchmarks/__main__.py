"""All figures, measured on this machine in one run: `python -m benchmarks`, with `--json` for programs."""

import argparse
import asyncio
import json

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks import agent, sessions
from infra.local.settings import Settings

TABLE_WIDTH = 100

# (what, figure, the same of the floor, unit, the most it should be)
ROWS = (
    ("stack ready", "ready_s", "", "s", 8),
    ("create to first command, cold: cloud_run p50", "cloud_run_p50_ms", "", "ms", 400),
    ("  p10", "cloud_run_p10_ms", "", "ms", None),
    ("  p90", "cloud_run_p90_ms", "", "ms", None),
    ("  gke p50", "gke_p50_ms", "", "ms", None),
    ("  p90", "gke_p90_ms", "", "ms", None),
    ("  workstations p50", "workstations_p50_ms", "", "ms", None),
    ("  p90", "workstations_p90_ms", "", "ms", None),
    ("suspend with 100 MB of files: cloud_run", "cloud_run_suspend_ms", "", "ms", None),
    ("  resume to first command", "cloud_run_resume_ms", "", "ms", None),
    ("  gke: suspend", "gke_suspend_ms", "", "ms", None),
    ("  resume to first command", "gke_resume_ms", "", "ms", None),
    ("  workstations: suspend (stop)", "workstations_suspend_ms", "", "ms", None),
    ("  resume to first command", "workstations_resume_ms", "", "ms", None),
    ("agent, Unix socket, `echo hi`: p50", "p50_ms", "floor_p50_ms", "ms", 3),
    ("  p90", "p90_ms", "floor_p90_ms", "ms", None),
    ("  16 clients", "rps", "floor_rps", "requests/s", None),
    ("gateway and function, `echo hi`: p50", "gateway_p50_ms", "floor_p50_ms", "ms", 8),
    ("  p90", "gateway_p90_ms", "floor_p90_ms", "ms", None),
    ("  16 clients", "gateway_rps", "floor_rps", "requests/s", None),
    ("SDK, by way of the functions: p50", "sdk_functions_p50_ms", "floor_p50_ms", "ms", None),
    ("SDK, directly to the workspace: p50", "sdk_direct_p50_ms", "floor_p50_ms", "ms", None),
    ("a command of a shell, directly: p50", "shell_direct_p50_ms", "floor_p50_ms", "ms", None),
    ("a command of a shell, by the relay: p50", "shell_relay_p50_ms", "floor_p50_ms", "ms", None),
    ("agent, resident", "rss_mb", "", "MB", 40),
)


async def measure(settings: Settings) -> dict[str, float]:
    """Every figure by name; the floor is `sh -c 'echo hi'` by asyncio."""
    return {**await sessions.measure(settings), **await agent.measure()}


def table(figures: dict[str, float]) -> Table:
    counts = ", ".join(f"{count} on {provider}" for provider, count in sessions.COLD_SESSIONS.items())
    title = f"OnMemOS on this machine, cold sessions: {counts}; the floor is asyncio's sh -c 'echo hi'"
    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("", "measured", "wanted", "floor", "times the floor"):
        result.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for what, name, floor, unit, most in ROWS:
        value = figures[name]
        result.add_row(
            what,
            f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}",
            "" if most is None else f"≤ {most} {unit}",
            f"{figures[floor]:.2f}" if floor else "",
            f"{value / figures[floor]:.2f}" if floor else "",
            style="" if most is None or value <= most else "yellow",
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    options = parser.parse_args()
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # a line that is cut says nothing
    with console.status("measuring, for a minute", spinner="dots"):
        figures = asyncio.run(measure(Settings.from_environment()))
    if options.json:
        print(json.dumps(figures))
    else:
        console.print(table(figures))


if __name__ == "__main__":
    main()
