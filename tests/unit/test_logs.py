"""The log of a process, as text and as JSON."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from typing import Literal
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from common import log_context
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


def test_lines_say_what_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("workers")
    for log_format in ("json", "text"):
        setup_logging(Settings(log_format=log_format))
        with log_context.log_context(request_id="r-1", job_id="j-1"):
            logger.info("hello")
            logger.info("of another", extra={"job_id": "j-2"})
        logger.info("later")
    lines = capsys.readouterr().err.splitlines()
    records = [json.loads(line) for line in lines[:3]]
    assert [(record.get("request_id"), record.get("job_id")) for record in records] == [
        ("r-1", "j-1"),
        ("r-1", "j-2"),
        (None, None),
    ]
    assert [line.partition("workers: ")[2] for line in lines[3:]] == [
        "hello request_id=r-1 job_id=j-1",
        "of another request_id=r-1 job_id=j-2",
        "later",
    ]


def test_a_message_cannot_pretend_to_be_another_line(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(Settings())
    logging.getLogger("web").info("GET %s", "/a\r\n2026-01-01 CRITICAL all is lost \x1b[2J\u2028x")
    first, second = capsys.readouterr().err.split("\n", 1)
    assert first.endswith("web: GET /a\\r")
    assert second == "    2026-01-01 CRITICAL all is lost \\x1b[2J\\u2028x\n"


SECRET, PASSWORD, OTHER = "token-of-the-api", 'p"ss%40/word', "key-of-milvus"


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_line_shows_a_secret(log_format: Literal["json", "text"], capsys: pytest.CaptureFixture[str]) -> None:
    redis_url = f"redis://user:{quote(PASSWORD, safe='')}@host:6379/0"
    settings = Settings(
        log_format=log_format,
        api_token=SecretStr(SECRET),
        redis_url=redis_url,
        milvus_uri=f"http://root:{OTHER}@milvus:19530",
    )
    setup_logging(settings)
    logger = logging.getLogger("web")
    logger.info("Authorization: Bearer %s", SECRET)
    logger.info("connecting to %s and %s", redis_url, settings.milvus_uri, extra={"url": redis_url})
    logger.info("the password %s", PASSWORD)
    logger.info("another's: rediss://:short@elsewhere/0")
    try:
        raise ValueError(f"{PASSWORD} and {OTHER}")
    except ValueError:
        logger.exception("it failed")
    err = capsys.readouterr().err
    for secret in (SECRET, PASSWORD, quote(PASSWORD, safe=""), json.dumps(PASSWORD)[1:-1], OTHER, ":short@"):
        assert secret not in err
    assert "redis://***@host:6379/0" in err
    assert "rediss://***@elsewhere/0" in err
    assert "Bearer ***" in err
    assert len(err.splitlines()) == 5 or log_format == "text"


def test_a_setting_that_holds_a_secret_is_typed_as_one() -> None:
    for name, field in Settings.model_fields.items():
        if any(word in name for word in ("token", "password", "secret")):
            assert field.annotation not in (str, str | None), name
