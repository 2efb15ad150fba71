"""Writes log lines as JSON objects if TOYGAN_LOG_FORMAT is json; by default they are text."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_fields: ContextVar[dict[str, str | int]] = ContextVar("log_fields", default={})  # noqa: B039 (never changed)


@contextmanager
def log_fields(**fields: str | int) -> Iterator[None]:
    """Adds the fields to every log line within this context, and of threads that inherit the context."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


class JsonLines(logging.Formatter):
    """Formats a log line as JSON: time, level, logger, message, log_fields, Prefect's ids, and a traceback as
    `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields.get(),
        }
        for name in ("flow_run_id", "task_run_id"):
            if (value := getattr(record, name, None)) not in (None, "<unknown>"):
                line[name] = str(value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def use_the_log_format() -> None:
    """Makes this process write its log as JSON, if TOYGAN_LOG_FORMAT is json."""
    from flows.settings import service_settings

    if service_settings().log_format != "json":
        return
    known = logging.root.manager.loggerDict.values()
    for logger in [logging.root, *(each for each in known if isinstance(each, logging.Logger))]:
        for handler in list(logger.handlers):
            # Prefect's own handler writes through rich, which may wrap and colour lines.
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler.formatter, JsonLines):
                logger.removeHandler(handler)
                logger.addHandler(_in_place_of(handler))


def _in_place_of(handler: logging.Handler) -> logging.Handler:
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(JsonLines())
    lines.setLevel(handler.level)
    for each in handler.filters:
        lines.addFilter(each)
    return lines
