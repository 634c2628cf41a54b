"""Logs as JSON lines, for programs: one file that the driver and its worker processes append to."""

from __future__ import annotations

import json
import logging
import os
import re
from datetime import UTC, datetime

LOG_FILE = "GNOME_LOG_JSON"
FIELDS = "fields"  # `log.info("committed", extra={FIELDS: {...}})`: keys of the line
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


class JsonLines(logging.Formatter):
    """time, level, logger, process and message of a record, its own fields, and its exception.

    Values of environment variables that are named like secrets are struck out wherever they appear.
    """

    def __init__(self):
        super().__init__()
        self.secrets = sorted((v for k, v in os.environ.items() if _SECRET.search(k) and len(v) >= 6), key=len)[::-1]

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, default=str, ensure_ascii=False)
        for secret in self.secrets:
            text = text.replace(json.dumps(secret, ensure_ascii=False)[1:-1], "***")
        return text


def write_json_lines() -> None:
    """From here on, append what this process logs to the file that the environment names, if it names one."""
    path = os.environ.get(LOG_FILE)
    if not path:
        return
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setLevel(logging.INFO)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(min(root.level or logging.INFO, logging.INFO))
