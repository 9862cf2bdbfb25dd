"""Moments and durations as the API, Go and kubectl write them."""

from datetime import UTC, datetime
from typing import Final

UNKNOWN: Final = "<unknown>"


def timestamp(moment: datetime) -> str:
    """metav1.Time: whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def in_go(seconds: float) -> str:
    """A duration as Go prints one: 10s, 2m40s."""
    minutes, rest = divmod(int(seconds) if seconds >= 1 else seconds, 60)
    if minutes:
        return f"{int(minutes)}m{int(rest)}s"
    return f"{int(rest)}s" if seconds >= 1 else f"{int(seconds * 1000)}ms"


def age(since: str | None) -> str:
    """As kubectl prints durations: 45s, 5m10s, 3h5m, 2d4h, 400d."""
    if not since:
        return UNKNOWN
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    if seconds < -1:
        return "<invalid>"
    seconds = max(seconds, 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    return f"{days}d" if days < 730 else f"{days // 365}y"


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"
