"""What a client may ask of the system. The web tier and the command line both go through `Client`."""

from __future__ import annotations

from collections.abc import Sequence

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from common import presence
from common.celery_app import COMPACT, INDEX_BATCH, SCAN, SEARCH, make_celery
from common.errors import JobStateConflict, RedisUnavailable, UnknownJob
from common.journal import JobJournal
from common.library import Library
from common.messages import FileError, IndexJob, QueueLengths, SearchQuery, SearchResult, WorkerInfo
from common.progress import JobBoard
from common.redis_client import connect, public_url, reported
from common.searches import SearchBoard
from common.settings import Settings

# What a resumed job sends at once; its workers send the rest.
RESUME_WINDOW = 4


class Client:
    """Submits searches and index jobs, and reads their state. Every call may raise `RedisUnavailable`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.library = Library(settings.library_roots)
        self.redis: redis.Redis = connect(settings)
        self._celery: Celery = make_celery(settings)
        self._jobs = JobBoard(self.redis)
        self._journal = JobJournal(settings.data_dir)
        self._searches = SearchBoard(
            self.redis, ttl_seconds=settings.search_ttl_seconds, timeout_seconds=settings.search_timeout_seconds
        )

    def submit_search(self, query: SearchQuery, image: bytes | None = None) -> SearchResult:
        """Enqueues a search for `image` (the bytes of a picture file) or for `query.image_id`.

        Raises:
            OutsideLibrary: `query.folder` is under no library root.
        """
        if query.folder is not None:
            query = query.model_copy(update={"folder": self.library.locate(query.folder).public})
        with reported(self.settings):
            record = self._searches.create(query, image)
        self._send(SEARCH, record.result.id)
        return record.result

    def search(self, search_id: str, wait_seconds: float = 0) -> SearchResult:
        """The state of a search, waiting up to `wait_seconds` for the answer.

        Raises:
            UnknownSearch: The id is unknown, or the results have expired.
        """
        with reported(self.settings):
            return self._searches.result(search_id, wait_seconds)

    def submit_index_job(self, folder: str, *, allow_empty: bool = False) -> IndexJob:
        """Enqueues the indexing of a folder, given as a public path or an absolute path under a root.

        Args:
            folder: The folder.
            allow_empty: Whether to take out all its images if it holds no pictures any more; refused otherwise,
                because an unmounted disk looks the same.

        Raises:
            OutsideLibrary: The folder is under no library root.
            FolderNotFound: The root is mounted on this host, but the folder is not there.
        """
        location = self.library.locate(folder)
        # A client's host need not mount the library: then only the workers can tell.
        if self.library.is_mounted(location.root):
            self.library.resolve_folder(location)
        return self._submit(location.public, allow_empty=allow_empty)

    def job(self, job_id: str) -> IndexJob:
        """The state of a job.

        Raises:
            UnknownJob: There is none of this id.
        """
        with reported(self.settings):
            try:
                return self._jobs.get(job_id)
            except UnknownJob:
                interrupted = self._journal.find(job_id)
                if interrupted is None:
                    raise
                return interrupted

    def jobs(self) -> list[IndexJob]:
        """The latest jobs, newest first; those that Redis has lost are shown as interrupted."""
        with reported(self.settings):
            return self._journal.interrupted(self._jobs.is_known) + self._jobs.latest()

    def job_errors(self, job_id: str) -> list[FileError]:
        """The files of a job that failed; what failed in an interrupted job was lost with it.

        Raises:
            UnknownJob: There is none of this id.
        """
        with reported(self.settings):
            try:
                return self._jobs.errors(job_id)
            except UnknownJob:
                if self._journal.find(job_id) is None:
                    raise
                return []

    def pause_job(self, job_id: str) -> IndexJob:
        """Stops taking new batches; running ones are finished."""
        with reported(self.settings):
            return self._jobs.control(job_id, "paused")

    def cancel_job(self, job_id: str) -> IndexJob:
        """Ends the job; what is indexed stays."""
        with reported(self.settings):
            return self._jobs.control(job_id, "cancelled")

    def resume_job(self, job_id: str) -> IndexJob:
        """Goes on with a paused job."""
        with reported(self.settings):
            job = self._jobs.control(job_id, "resumed")
            for batch in self._jobs.work.hand_out(job_id, RESUME_WINDOW):
                self._send(INDEX_BATCH, job_id, batch)
        return job

    def retry_job(self, job_id: str) -> IndexJob:
        """Tries the failed files of a job again, as a new job.

        Raises:
            UnknownJob: There is none of this id.
            JobStateConflict: No file of it failed.
        """
        with reported(self.settings):
            job = self.job(job_id)
            paths = [error.path for error in self.job_errors(job_id)]
        if not paths:
            raise JobStateConflict(job_id, "without failed files", "retried")
        return self._submit(job.folder, paths=paths)

    def submit_paths_job(self, folder: str, paths: Sequence[str]) -> IndexJob:
        """Enqueues the indexing of single files, given as public paths, whatever else their folder holds.

        Raises:
            OutsideLibrary: A path is under no library root.
        """
        return self._submit(self.library.locate(folder).public, paths=[self.library.locate(p).public for p in paths])

    def _submit(self, folder: str, *, paths: Sequence[str] | None = None, allow_empty: bool = False) -> IndexJob:
        with reported(self.settings):
            job = self._jobs.create(folder, paths=paths, allow_empty=allow_empty)
        self._send(SCAN, job.id)
        return job

    def workers(self) -> list[WorkerInfo]:
        """The workers that are alive."""
        with reported(self.settings):
            return presence.live_workers(self.redis)

    def queues(self) -> QueueLengths:
        """How many tasks wait."""
        with reported(self.settings):
            return presence.queue_lengths(self.redis)

    def request_compaction(self) -> None:
        """Asks the maintenance worker to compact the store."""
        self._send(COMPACT)

    def _send(self, task: str, *args: str) -> None:
        try:
            self._celery.send_task(task, args=args, retry=True, retry_policy={"max_retries": 2, "interval_start": 0.1})
        except OperationalError as error:
            raise RedisUnavailable(public_url(self.settings.redis_url), error) from error
