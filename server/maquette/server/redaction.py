"""Keeps tokens out of logs: uvicorn writes whole paths, queries included, for requests and for WebSockets.

Rule 1: the value of a query's `token` and everything that looks like a JWT becomes `***`, before any handler sees it.
"""

from __future__ import annotations

import logging
import re
from typing import Any

LOGGERS = ("uvicorn.access", "uvicorn.error", "uvicorn.asgi")

_QUERY = re.compile(r"((?:^|[?&;\s\"'])token=)[^&;\s\"']+", re.IGNORECASE)
_JWT = re.compile(r"eyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)?")  # however the parameter's name was spelt


class Redaction(logging.Filter):
    """Takes tokens out of the records of a logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = redacted(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(redacted(arg) for arg in record.args)
        return True


def redacted(value: Any) -> Any:
    """`value` without tokens when it is a string."""
    return _JWT.sub("***", _QUERY.sub(r"\1***", value)) if isinstance(value, str) else value


def keep_tokens_out_of_logs() -> None:
    """Redact what uvicorn logs in this process; again does nothing. Other servers need a `Redaction` of their own."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, Redaction) for one in logger.filters):
            logger.addFilter(Redaction())
