"""Places for what a slow client could make last for ever: sending a body, or taking a file.

The server has a thread for each request that it works on. What goes at the client's pace gets only some of them, and
keeps its place only as long as nobody waits for it, or for a while: so slow clients slow each other down, and nobody
else.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

# A place is looked for so long: most bodies are there within milliseconds.
WAIT_SECONDS = 2.0


class Slot:
    """A place that is held.

    Args:
        connection: The client's; None where there is none that could be cut off, as in tests.
        direction: What is shut down when the place is taken away: `SHUT_RD` or `SHUT_WR` of `socket`.
    """

    def __init__(self, connection: socket.socket | None, direction: int) -> None:
        self.began = time.monotonic()
        self.is_cut = False
        self._connection = connection
        self._direction = direction

    def cut(self) -> None:
        """Ends the client's part: whoever waits for it goes on at once."""
        self.is_cut = True
        if self._connection is not None:
            with suppress(OSError):  # it is gone already
                self._connection.shutdown(self._direction)


class Slots:
    """So many places.

    Args:
        most: How many.
        longest: So many seconds a place may be held at all.
        fair: After so many seconds it goes to somebody who waits for one.
        direction: See `Slot`.
    """

    def __init__(self, most: int, *, longest: float, fair: float, direction: int) -> None:
        self._most = most
        self._longest = longest
        self._fair = fair
        self._direction = direction
        self._held: list[Slot] = []  # the oldest first
        self._waiting = 0
        self._changed = threading.Condition()
        self._watch: threading.Thread | None = None

    def take(self, connection: socket.socket | None) -> Slot | None:
        """Takes a place; None if there is none, and none that somebody else has held for long."""
        with self._changed:
            if not self._make_room():
                return None
            slot = Slot(connection, self._direction)
            self._held.append(slot)
            if self._watch is None:
                self._watch = threading.Thread(target=self._look, name="slots", daemon=True)
                self._watch.start()
            return slot

    def _make_room(self) -> bool:
        """Waits for a place, if not too many wait already: each that does holds a thread."""
        if len(self._held) < self._most:
            return True
        if self._waiting >= self._most // 2:
            return False
        deadline = time.monotonic() + WAIT_SECONDS
        self._waiting += 1
        try:
            while len(self._held) >= self._most:
                now, oldest = time.monotonic(), self._held[0]
                is_over = oldest.began + self._fair
                if now > is_over:
                    self._cut(oldest)
                elif now > deadline:
                    return False
                else:
                    self._changed.wait(min(is_over, deadline) - now + 0.001)
            return True
        finally:
            self._waiting -= 1

    def give_back(self, slot: Slot) -> None:
        """Leaves a place; once is enough."""
        with self._changed:
            if slot in self._held:
                self._held.remove(slot)
                self._changed.notify_all()

    def _cut(self, slot: Slot) -> None:
        # Whoever held it may take a moment to notice; the place is free now.
        slot.cut()
        self._held.remove(slot)
        self._changed.notify_all()

    def _look(self) -> None:
        """Takes places away that are held for too long. Ends when there are none."""
        while True:
            time.sleep(min(1.0, self._longest / 4))
            with self._changed:
                while self._held and time.monotonic() - self._held[0].began > self._longest:
                    self._cut(self._held[0])
                if not self._held:
                    self._watch = None
                    return
