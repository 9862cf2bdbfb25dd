"""Structured logs, one JSON object a line, in the fields that Cloud Logging understands."""

import json
import logging
import sys
from datetime import UTC, datetime

# cloud.google.com/logging/docs/structured-logging#special-payload-fields
STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class CloudFormatter(logging.Formatter):
    """severity, message, time, logger, and every `extra` field beside them."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "message": record.getMessage(),
            "logger": record.name,
        }
        entry.update({name: value for name, value in record.__dict__.items() if name not in STANDARD})
        if record.exc_info:
            entry["stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure(level: int = logging.INFO) -> None:
    """Send the root logger's records to standard error. For programs, not for libraries; idempotent."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(CloudFormatter())
    logging.root.handlers = [handler]
    logging.root.setLevel(level)
    for name in ("httpx", "uvicorn.access", "uvicorn.error"):  # they log requests with their URL, which may hold a key
        logging.getLogger(name).setLevel(logging.WARNING)
