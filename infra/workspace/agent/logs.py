"""Logging: one JSON object a line on stderr, in the fields that Cloud Logging knows."""

import json
import logging

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "color_message"}


class JsonLines(logging.Formatter):
    """severity, message, logger, then whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"severity": record.levelname, "message": record.getMessage(), "logger": record.name}
        entry |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            entry["stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def to_stderr() -> None:
    """Send this process's log there: INFO of the agent, WARNING of everything else."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    logging.getLogger(__package__).setLevel(logging.INFO)
    # Below it, uvicorn logs the path and query of each WebSocket, and a query may hold a ticket.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
