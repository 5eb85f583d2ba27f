"""Log lines of every process: text for people, or one JSON object a line for machines.

Both show what the line is about (`common.log_context`), and neither shows a secret of the settings.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from urllib.parse import unquote

from pydantic import SecretStr

from common import log_context
from common.settings import Settings

_TEXT = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"
# What every record has; the rest was passed as `extra`. Celery passes as `data` what its message says anyway.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}
# A file's name or a client's text must not look like a line of its own, nor move the cursor of a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]*@")
_PASSWORD = re.compile(r"://[^/@:]*:([^/@]+)@")
_HIDDEN = "***"
# A shorter one would be found in harmless words. Inside an address it is hidden all the same.
_LEAST_SECRET = 6


class Redactor:
    """Takes secrets out of finished lines.

    Args:
        secrets: What must not be shown.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Also as they stand in a JSON text.
        spelled = {spelling for secret in secrets for spelling in (secret, json.dumps(secret)[1:-1])}
        longest_first = sorted((text for text in spelled if len(text) >= _LEAST_SECRET), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def of(cls, settings: Settings) -> Redactor:
        """For the secrets of the settings: tokens, and the passwords of addresses."""
        return cls(_secrets(settings))

    def __call__(self, line: str) -> str:
        """The line without secrets."""
        if "@" in line:
            line = _CREDENTIALS.sub(f"{_HIDDEN}@", line)
        return self._secrets.sub(_HIDDEN, line) if self._secrets else line


class ContextFilter(logging.Filter):
    """Gives each record the fields of the context that it was made in."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record through."""
        for name, value in log_context.current().items():
            if not hasattr(record, name):  # the caller knows better
                setattr(record, name, value)
        return True


class TextFormatter(logging.Formatter):
    """A line for people, with the fields of the context at its end; what follows of a record is indented."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__(_TEXT)
        self._redact = redactor or Redactor()

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without a traceback."""
        fields = [f"{name}={getattr(record, name)}" for name in log_context.FIELDS if hasattr(record, name)]
        return " ".join([super().formatMessage(record), *fields])

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record, without the newline at its end."""
        text = self._redact(super().format(record))
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text).replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object a line; fields of the context and `extra` fields become fields of the object."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__()
        self._redact = redactor or Redactor()

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record, without the newline."""
        fields = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self._redact(json.dumps(fields, default=str, ensure_ascii=False))


def setup_logging(settings: Settings, level: int = logging.INFO) -> None:
    """Sends the log of this process to standard error, replacing handlers that are there already."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter if settings.log_format == "json" else TextFormatter
    handler.setFormatter(formatter(Redactor.of(settings)))
    # On the handler, so that it sees the records of all loggers, in the thread that made them.
    handler.addFilter(ContextFilter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


def _secrets(settings: Settings) -> Iterable[str]:
    for value in (getattr(settings, field) for field in type(settings).model_fields):
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, str) and "://" in value:
            for password in _PASSWORD.findall(value):
                yield from (password, unquote(password))
