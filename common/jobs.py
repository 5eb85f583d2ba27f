"""What a client may ask of the system. The web tier and the command line both go through `Client`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from common import index_metrics, log_context, presence, stage_metrics
from common.celery_app import COMPACT, FIND_DUPLICATES, INDEX_BATCH, QUERY, SCAN, SEARCH, make_celery
from common.duplicates import DuplicateBoard, DuplicateJob, DuplicatePage
from common.errors import JobStateConflict, RedisUnavailable, UnknownJob
from common.index_metrics import IndexMetrics
from common.journal import JobJournal
from common.library import Library
from common.messages import FileError, IndexJob, QueueLengths, SearchQuery, SearchResult, WorkerInfo
from common.progress import JobBoard
from common.recall import RecallBoard, RecallTotals
from common.redis_client import check, connect, public_url, reported
from common.searches import SearchBoard
from common.settings import Settings
from common.stage_metrics import QueryMetrics

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
        self._duplicates = DuplicateBoard(self.redis, settings.data_dir)
        self._searches = SearchBoard.of(settings, self.redis)

    def submit_search(
        self, query: SearchQuery, uploads: Sequence[bytes] = (), began: float | None = None
    ) -> SearchResult:
        """Enqueues a search for uploaded pictures, for stored ones that the query names, or for both.

        Args:
            query: What is searched for.
            uploads: The bytes of a picture file for each picture of the query that is not stored.
            began: The `time.perf_counter()` when the client's request came, for the stage `upload`.

        Raises:
            OutsideLibrary: `query.folder` is under no library root.
            TooManySearches: There is no place for it in the queue.
        """
        if query.folder is not None:
            query = query.model_copy(update={"folder": self.library.locate(query.folder).public})
        with reported(self.settings):
            record = self._searches.create(query, uploads, began)
        self._send(SEARCH, record.result.id)
        return self._searches.described(record, record.result)

    def continue_search(self, cursor: str, k: int | None = None, began: float | None = None) -> SearchResult:
        """Enqueues the next page of a search that is done.

        Args:
            cursor: Its `next_cursor`.
            k: How many results; as many as before by default.
            began: As for `submit_search`.

        Raises:
            UnknownSearch: There is no such search, or it has expired.
            InvalidCursor: The search has no next page.
            TooManySearches: There is no place for it in the queue.
        """
        with reported(self.settings):
            record = self._searches.create(self._searches.next_page(cursor, k), began=began)
        self._send(SEARCH, record.result.id)
        return self._searches.described(record, record.result)

    def search(
        self,
        search_id: str,
        wait_seconds: float = 0,
        is_ending: Callable[[], bool] = lambda: False,
        is_there: Callable[[], bool] = lambda: True,
    ) -> SearchResult:
        """The state of a search, waiting up to `wait_seconds` for the answer.

        Args:
            search_id: The search.
            wait_seconds: How long to wait.
            is_ending: Asked every second; when true, the wait ends with the state as it is.
            is_there: Asked every second, whether whoever asked still waits.

        Raises:
            UnknownSearch: The id is unknown, or the results have expired.
        """
        with reported(self.settings):
            return self._searches.result(search_id, wait_seconds, is_ending, is_there)

    def withdraw_search(self, search_id: str) -> None:
        """Says that one does not wait for a search any more; if nobody else does, it is not computed.

        Raises:
            UnknownSearch: The id is unknown, or the results have expired.
        """
        with reported(self.settings):
            self._searches.withdraw(search_id)

    def check_room(self) -> None:
        """Makes sure that a search could be submitted now, before something is done for it.

        Raises:
            TooManySearches: There is no place in the queue.
        """
        with reported(self.settings):
            self._searches.queue.admit("")

    def query_picture(self, search_id: str, number: int) -> bytes:
        """The preview of an uploaded picture that was searched for, a JPEG.

        Args:
            search_id: The search.
            number: Which one of its uploads, from 0.

        Raises:
            UnknownPicture: There is none: not yet, not any more, or never.
        """
        with reported(self.settings):
            return self._searches.pictures.read(search_id, number)

    def waiting_searches(self) -> int:
        """How many searches no worker has taken yet."""
        with reported(self.settings):
            return self.redis.llen(QUERY)

    def query_metrics(self) -> QueryMetrics:
        """How many searches ended, and how long their stages took."""
        with reported(self.settings):
            return stage_metrics.read(self.redis)

    def index_metrics(self) -> IndexMetrics:
        """What became of the files that were indexed, and how long the stages of batches took."""
        with reported(self.settings):
            return index_metrics.read(self.redis)

    def oldest_waiting(self) -> dict[str, float]:
        """By queue, how long the task that is next has been waiting, in seconds; 0 where none waits."""
        with reported(self.settings):
            return presence.oldest_waiting(self.redis)

    def recall(self) -> RecallTotals:
        """How many of the best results searches have found, as far as it was looked at."""
        with reported(self.settings):
            return RecallBoard(self.redis).read()

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

    def submit_duplicate_job(self, min_score: float, folder: str | None = None) -> DuplicateJob:
        """Asks the maintenance worker for near-duplicates in the collection, or below a folder.

        Args:
            min_score: Images with at least this cosine similarity are duplicates.
            folder: A public path, or an absolute path under a root.

        Raises:
            OutsideLibrary: The folder is under no library root.
        """
        public = None if folder is None else self.library.locate(folder).public
        with reported(self.settings):
            job = self._duplicates.create(min_score, public)
        self._send(FIND_DUPLICATES, job.id)
        return job

    def duplicate_jobs(self) -> list[DuplicateJob]:
        """The latest searches for near-duplicates, newest first."""
        with reported(self.settings):
            return self._duplicates.latest()

    def duplicates(self, job_id: str, cursor: str | None, limit: int) -> DuplicatePage:
        """The state of such a job, and `limit` of its groups once it is done; see `DuplicateBoard.page`."""
        with reported(self.settings):
            return self._duplicates.page(job_id, cursor, limit)

    def check_redis(self) -> None:
        """Makes sure that Redis is there and takes what it is given.

        Raises:
            RedisRefuses: It takes nothing.
        """
        with reported(self.settings):
            check(self.redis)

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
        log_context.add(**log_context.task_fields(task, args))
        # Once more at once: the connection may have died while nothing was to be sent.
        policy = {"max_retries": 1, "interval_start": 0.1}
        with reported(self.settings):
            try:
                headers = log_context.task_headers()
                self._celery.send_task(task, args=args, headers=headers, retry=True, retry_policy=policy)
            except OperationalError as error:
                if isinstance(error.__cause__, redis.RedisError):
                    raise error.__cause__ from None
                raise RedisUnavailable(public_url(self.settings.redis_url), error) from error
