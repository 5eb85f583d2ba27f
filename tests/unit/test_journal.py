"""Jobs that Redis has lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UnknownJob
from common.jobs import Client
from common.journal import JobJournal
from common.progress import JobBoard
from common.redis_client import connect
from common.settings import Settings


@pytest.fixture
def board(settings: Settings) -> JobBoard:
    return JobBoard(connect(settings))


def test_a_job_that_redis_lost_is_listed_as_interrupted(settings: Settings, board: JobBoard) -> None:
    journal, client = JobJournal(settings.data_dir), Client(settings)
    lost, kept = board.create("photos/a"), board.create("photos/b")
    journal.begin(lost)
    journal.begin(kept)
    client.redis.delete(f"imagesearch:job:{lost.id}")
    states = {job.folder: (job.state, (job.error or "")[:11]) for job in client.jobs()}
    assert states == {"photos/a": ("failed", "interrupted"), "photos/b": ("scanning", "")}
    assert client.job(lost.id).state == "failed"
    with pytest.raises(UnknownJob):
        client.job("../../etc")


def test_a_new_job_continues_interrupted_ones_of_its_folder(settings: Settings, board: JobBoard) -> None:
    journal = JobJournal(settings.data_dir)
    for folder in ("photos/a", "photos/a/b", "photos/ab"):
        journal.begin(board.create(folder))
    journal.supersede("photos/a", lambda _: False)
    assert [job.folder for job in journal.interrupted(lambda _: False)] == ["photos/ab"]


def test_a_damaged_note_is_passed_over(settings: Settings, board: JobBoard, tmp_path: Path) -> None:
    journal = JobJournal(settings.data_dir)
    journal.begin(board.create("photos"))
    broken = journal.folder("broken")
    broken.mkdir()
    (broken / "job.json").write_text("{")
    assert len(journal.interrupted(lambda _: False)) == 1
    assert journal.find("broken") is None
    assert JobJournal(tmp_path / "nowhere").interrupted(lambda _: False) == []
