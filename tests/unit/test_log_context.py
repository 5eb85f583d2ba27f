"""What log lines say they are about."""

from __future__ import annotations

import threading
from contextvars import copy_context

import pytest

from common import log_context
from common.celery_app import COMPACT, INDEX_BATCH, SCAN, SEARCH


def test_a_context_lasts_as_long_as_its_block() -> None:
    log_context.add(job_id="outside")
    assert log_context.current() == {}
    with log_context.log_context(request_id="r"):
        with log_context.log_context(job_id="j"):
            log_context.add(batch="b")
            assert log_context.current() == {"request_id": "r", "job_id": "j", "batch": "b"}
        assert log_context.current() == {"request_id": "r"}
    assert log_context.current() == {}


def test_a_context_that_was_begun_has_nothing_of_the_last_one() -> None:
    log_context.begin(request_id="1", job_id="j")
    log_context.begin(request_id="2")
    assert log_context.current() == {"request_id": "2"}
    log_context.end()
    assert log_context.current() == {}


def test_a_thread_has_its_own_unless_it_is_given_one() -> None:
    seen: list[dict[str, str]] = []

    def look() -> None:
        seen.append(dict(log_context.current()))

    with log_context.log_context(job_id="j"):
        for target, args in ((look, ()), (copy_context().run, (look,))):
            thread = threading.Thread(target=target, args=args)
            thread.start()
            thread.join(10)
    assert seen == [{}, {"job_id": "j"}]


@pytest.mark.parametrize("value", ["", "a b", "a\nb", "ä", "x" * 65, "../etc", '"', 7, None, ["a"], b"a"])
def test_what_is_no_id_gets_into_no_line(value: object) -> None:
    assert log_context.accepted_id(value) is None
    with log_context.log_context(request_id=value):
        assert log_context.current() == {}


@pytest.mark.parametrize("value", ["a", "x" * 64, "20251125-140000-0a1b2c", "001-000001-7", "0123456789abcdef"])
def test_ids_are_taken(value: str) -> None:
    assert log_context.accepted_id(value) == value


def test_the_arguments_of_tasks_are_known() -> None:
    assert log_context.task_fields(SEARCH, ["s"]) == {"search_id": "s"}
    assert log_context.task_fields(SCAN, ("j",)) == {"job_id": "j"}
    assert log_context.task_fields(INDEX_BATCH, ["j", "b", "more"]) == {"job_id": "j", "batch": "b"}
    assert log_context.task_fields(INDEX_BATCH, []) == log_context.task_fields(COMPACT, ["x"]) == {}


def test_a_message_carries_the_request() -> None:
    with log_context.log_context(request_id="r", job_id="j"):
        headers = log_context.task_headers()
    assert log_context.header_of(headers)["request_id"] == "r"
    assert log_context.header_of(log_context.task_headers())["request_id"] is None


@pytest.mark.parametrize("headers", [None, {}, [], "x", {log_context.HEADER: None}, {log_context.HEADER: "x"}])
def test_headers_of_other_senders_say_nothing(headers: object) -> None:
    assert log_context.header_of(headers) == {}
