"""Makes previews of uploaded query pictures after their searches, in a thread that stays out of the way of others."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from common.errors import ImageRejected
from common.images import PictureDecoder

logger = logging.getLogger(__name__)

# A client that searches again at once must not meet the preview of its last picture.
_QUIET_SECONDS = 0.1
# Where searches never pause, a preview is made nevertheless; all together may then take so small a part of the time.
_PATIENCE_SECONDS = 1.0
_PATIENCE_FACTOR = 50
# The uploads that wait, which are held in memory. Beyond it the oldest ones get no preview.
_MOST_WAITING_BYTES = 32 * 2**20

_Waiting = tuple[str, int, bytes]


class PreviewMaker:
    """Makes one preview at a time and hands it over. Not a single failure of it reaches a search.

    Args:
        decoder: The one of the uploads: its limits and its bounds of memory hold here, too.
        keep: Gets the search, the number of its upload, and the preview.
        await_quiet: Waits until no search has run for so many seconds, or for so many at most.
        most_waiting_bytes: Bytes of the uploads that may wait; beyond it the oldest are dropped.
    """

    def __init__(
        self,
        decoder: PictureDecoder,
        keep: Callable[[str, int, bytes], None],
        await_quiet: Callable[[float, float], object],
        *,
        most_waiting_bytes: int = _MOST_WAITING_BYTES,
    ) -> None:
        self._decoder = decoder
        self._keep = keep
        self._await_quiet = await_quiet
        self._most_waiting_bytes = most_waiting_bytes
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._stopping = False
        self._patience = _PATIENCE_SECONDS
        self._thread: threading.Thread | None = None

    def submit(self, search_id: str, uploads: Sequence[bytes]) -> None:
        """Takes the uploads of a search. Never waits."""
        with self._changed:
            for number, upload in enumerate(uploads):
                self._waiting.append((search_id, number, upload))
                self._waiting_bytes += len(upload)
            while self._waiting_bytes > self._most_waiting_bytes:
                self._take()
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="previews", daemon=True)
                self._thread.start()
            self._changed.notify()

    def stop(self) -> None:
        """Ends the thread when all that waits has been looked at."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _take(self) -> _Waiting:
        """The one that has waited longest; call it with the lock."""
        oldest = self._waiting.popleft()
        self._waiting_bytes -= len(oldest[2])
        return oldest

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    return
            # What waits is taken only then: it can still be dropped.
            self._await_quiet(_QUIET_SECONDS, self._patience)
            with self._changed:
                if not self._waiting:
                    continue
                search_id, number, upload = self._take()
            self._make(search_id, number, upload)

    def _make(self, search_id: str, number: int, upload: bytes) -> None:
        started = time.monotonic()
        try:
            self._keep(search_id, number, self._decoder.preview(upload))
        except ImageRejected:
            pass  # the search has failed for that reason, and says so
        except Exception:
            logger.warning("the preview of a picture of search %s could not be made", search_id, exc_info=True)
        self._patience = max(_PATIENCE_SECONDS, _PATIENCE_FACTOR * (time.monotonic() - started))
