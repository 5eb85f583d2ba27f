"""Embeds the pictures of searches that wait at the same time in one forward pass."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np

from common.errors import ModelError
from common.images import Pixels
from workers.extractor import FeatureExtractor
from workers.queries import Feature

logger = logging.getLogger(__name__)

# The searches of more clients are answered sooner in turns.
MOST_PICTURES = 16
# How long a free network waits for pictures that are being decoded, so that they share its next pass. Decoding a
# photo takes about as long; a pass takes several times longer on a processor, and each one that is shared saves one.
PATIENCE_SECONDS = 0.005

# What a search costs beside the network, spread over two cores: measured, 6 to 10 ms of processor time.
_ANSWERING_SECONDS = 0.004
# After a large pass a free network waits for its clients for this part of another such pass.
_BACK_WITHIN = 0.1

_Waiting = tuple[Pixels, "Future[Feature]"]


class MicroBatcher:
    """Embeds pictures from many threads in the forward passes of one.

    What waits when the network becomes free goes into the next pass, or a part of it: see `size_of_pass`.
    A free network waits only while other pictures are known to be on their way, or where so many were answered in the
    last pass that some may be back, and then for a moment: a single search starts at once.

    Args:
        extractor: The network; called from one thread.
        limit: The most pictures in a pass.
        patience: How long a pass may be put off for pictures on their way, in seconds.
    """

    def __init__(
        self, extractor: FeatureExtractor, limit: int = MOST_PICTURES, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._extractor = extractor
        self._limit = limit
        self._patience = patience
        self._changed = threading.Condition()
        self._coming = 0
        self._waiting: list[_Waiting] = []
        self._back, self._back_until = 0, 0.0
        self._is_warming = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def warm_up(self) -> None:
        """Begins to run the network's larger batches for the first time, between the searches that come meanwhile."""
        with self._changed:
            self._is_warming = True
            self._need_thread()

    def close(self, seconds: float) -> None:
        """Ends the thread. Waits so long for a pass that has begun: a process that ends in the middle of it crashes."""
        with self._changed:
            self._is_closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(seconds)

    def embed(self, decode: Callable[[], Pixels]) -> Feature:
        """The feature of one picture, (d,) float32.

        Args:
            decode: Gives the picture, (h, w, 3); called at once, in this thread.

        Raises:
            ModelError: The model failed.
            Exception: Whatever `decode` raises.
        """
        return self.embed_all(lambda: [decode()])[0]

    def embed_all(self, decode: Callable[[], Sequence[Pixels]]) -> list[Feature]:
        """The features of several pictures, which go into the same pass if there is room for them; see `embed`."""
        futures: list[Future[Feature]] = []
        with self._on_its_way() as arrived:
            for pixels in decode():
                futures.append(Future())
                arrived.append((pixels, futures[-1]))
        return [future.result() for future in futures]

    @contextmanager
    def _on_its_way(self) -> Iterator[list[_Waiting]]:
        """Counts a query that is being decoded; what the block puts into the list then waits for the network."""
        with self._changed:
            self._coming += 1
        arrived: list[_Waiting] = []
        try:
            yield arrived
        finally:
            # In one step, so that at no moment it is neither on its way nor waiting.
            with self._changed:
                self._coming -= 1
                self._waiting += arrived
                if self._waiting:
                    self._need_thread()
                self._changed.notify_all()

    def _need_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="embed", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        batch: list[_Waiting] = []
        try:
            while not self._is_closed:
                batch = self._next_batch()
                if batch:
                    self._pass(batch)
                    self._expect_back(len(batch))
                if self._is_warming and not self._is_closed:
                    self._is_warming = self._warm_up_next()
        finally:
            # Whatever else ends this thread: nobody may wait for it, and the next picture starts another one.
            with self._changed:
                left, self._waiting, self._thread = [*batch, *self._waiting], [], None
            for _, future in left:
                if not future.done():
                    future.set_exception(ModelError("The thread of the model ended unexpectedly."))

    def _next_batch(self) -> list[_Waiting]:
        """What goes into the next pass. Nothing, if nobody searches and there is something else to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed or (self._is_warming and not self._coming))
            if not self._waiting:
                return []
            self._changed.wait_for(
                lambda: len(self._waiting) >= self._back, max(0.0, self._back_until - time.monotonic())
            )
            self._changed.wait_for(lambda: not self._coming or len(self._waiting) >= self._limit, self._patience)
            size = size_of_pass(len(self._waiting), self._limit, self._extractor.estimated_seconds)
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
        return batch

    def _warm_up_next(self) -> bool:
        try:
            return self._extractor.warm_up_next()
        except Exception:
            # Single pictures are embedded; a batch that fails again says so to those who wait for it.
            logger.exception("the network could not be warmed up for several pictures at a time")
            return False

    def _expect_back(self, answered: int) -> None:
        """After a large pass its clients may all be back in a moment: the first one would else have one for itself."""
        self._back = answered if answered > self._limit // 2 else 0
        self._back_until = time.monotonic() + _BACK_WITHIN * self._extractor.estimated_seconds(answered)

    def _pass(self, batch: list[_Waiting]) -> None:
        try:
            features = self._extractor.extract(np.stack([pixels for pixels, _ in batch]))
            if len(features) != len(batch):
                raise ModelError(f"The model gave {len(features)} features for {len(batch)} pictures.")
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must be told
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), feature in zip(batch, features, strict=True):
                future.set_result(feature)


def size_of_pass(waiting: int, limit: int, estimated_seconds: Callable[[int], float]) -> int:
    """How many of the pictures that wait go into the next pass, when of many some may be left for the one after it.

    Half a pass goes at once; of more, the split that is over soonest. Where all go together, all clients are answered
    together, and if they search again and again the network stands still until they are back; where it is quicker with
    many at a time, that is worth it.

    Args:
        waiting: How many wait, at least one.
        limit: The most in a pass.
        estimated_seconds: What a number of pictures takes in one pass.
    """
    if waiting >= 2 * limit:
        return limit

    def seconds(size: int) -> float:
        left = waiting - size
        return estimated_seconds(size) + (estimated_seconds(left) if left else size * _ANSWERING_SECONDS)

    least, most = min(waiting, limit // 2), min(waiting, limit)
    # Of those that take the same, that in two halves.
    return min(range(max(1, least), most + 1), key=lambda size: (round(seconds(size), 3), abs(waiting - 2 * size)))
