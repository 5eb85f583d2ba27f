"""The log of a process, as text and as JSON."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from common.logs import setup_logging
from common.settings import Settings


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """The handlers of the test run come back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level


def test_json_lines_hold_the_message_extra_fields_and_the_exception(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(Settings(log_format="json"))
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("workers").exception("job %s\nfailed", "7", extra={"job": "7"})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    record = json.loads(lines[0])
    assert (record["level"], record["logger"], record["message"]) == ("error", "workers", "job 7\nfailed")
    assert record["job"] == "7"
    assert "ValueError: no" in record["exception"]
    assert record.keys() == {"time", "level", "logger", "pid", "message", "job", "exception"}


def test_text_lines_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(Settings())
    logging.getLogger("web").info("hello")
    logging.getLogger("web").debug("not this")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    err = capsys.readouterr().err
    assert "INFO" in err
    assert "web: hello" in err
    assert "not this" not in err
    assert "careful" in err
