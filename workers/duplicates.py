"""Looks for near-duplicates in the whole collection, for a job."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import partial

from common.celery_app import FIND_DUPLICATES
from common.duplicates import DuplicateBoard, DuplicateGroup, DuplicateImage
from common.errors import ImageSearchError
from common.ranking.duplicates import Group, find_groups
from common.store import CatalogEntry, FeatureStore
from workers.runtime import Runtime

logger = logging.getLogger(__name__)


def run_duplicate_job(worker: Runtime, job_id: str) -> None:
    """Runs a job, unless it is not waiting any more."""
    board = DuplicateBoard(worker.redis, worker.settings.data_dir)
    job = board.begin(job_id)
    if job is None:
        return

    def give_back() -> None:
        board.put_back(job)
        worker.send(FIND_DUPLICATES, job_id)

    try:
        with worker.unfinished.item(give_back):
            store = worker.store
            groups = find_groups(store, job.min_score, folder=job.folder, progress=partial(board.report, job))
            board.finish(job, described(store, groups))
    except (ImageSearchError, OSError) as error:
        board.fail(job, str(error))
    except Exception:
        logger.exception("looking for duplicates failed")
        board.fail(job, "It failed because of an internal error; the worker's log has the details.")


def described(store: FeatureStore, groups: Iterable[Group]) -> Iterator[DuplicateGroup]:
    """The groups with the records of their images, without those that are gone meanwhile."""
    for group in groups:
        entries = [entry for image_id in group.image_ids if (entry := store.catalog.by_id(image_id))]
        if len(entries) > 1:
            images = [_image(entry) for entry in sorted(entries, key=lambda entry: entry.path)]
            yield DuplicateGroup(images=images, lowest_score=group.lowest, best_score=group.best)


def _image(entry: CatalogEntry) -> DuplicateImage:
    record = entry.record
    return DuplicateImage(
        image_id=entry.image_id, path=entry.path, width=record.width, height=record.height, size=record.size
    )
