"""Starts processes, waits until they are ready, restarts the ones that die, and stops them all."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from common.errors import ImageSearchError
from common.up.logs import rotate
from common.up.processes import kill_session, last_lines, started_at, stop_sessions
from common.up.run_record import Child

POLL_SECONDS = 0.1
READY_CHECK_SECONDS = 0.3
LOG_CHECK_SECONDS = 5.0
# When a log could not be put aside: that is tried again, and told again, after this time.
LOG_TROUBLE_SECONDS = 600.0
RESTARTS_A_MINUTE = 5
LONGEST_BACKOFF_SECONDS = 10.0


class PartFailed(ImageSearchError):
    """A part of the system does not run."""

    def __init__(self, name: str, problem: str, log: Path, tail: str) -> None:
        self.name, self.log, self.tail = name, log, tail
        indented = "\n".join(f"    {line}" for line in tail.splitlines()) or "    (empty)"
        super().__init__(f"The part `{name}` {problem}. The end of its log, {log}:\n{indented}")


@dataclass(frozen=True)
class Part:
    """A program that is kept running.

    Attributes:
        name: What people know it by; its log is `NAME.log`.
        command: The program and its arguments.
        is_ready: Whether it does its work, given the pid of its process. Asked again and again; must be quick.
        env: Its whole environment; that of this process if None.
        ready_seconds: It must be ready in this time.
        grace_seconds: What it gets to end by itself.
        stops_last: Whether the others need it to end well.
    """

    name: str
    command: Sequence[str]
    is_ready: Callable[[int], bool]
    env: Mapping[str, str] | None = None
    ready_seconds: float = 180.0
    grace_seconds: float = 30.0
    stops_last: bool = False


@dataclass
class _Running:
    part: Part
    log: Path
    process: subprocess.Popen[bytes]
    child: Child
    log_offset: int
    started: float = field(default_factory=time.monotonic)
    ready: bool = False
    was_ready: bool = False
    next_check: float = 0.0
    ended: bool = False
    restart_at: float | None = None
    deaths: deque[float] = field(default_factory=deque)


class Supervisor:
    """Runs parts, each in a session of its own, with its output in a log file.

    Args:
        log_folder: Where the logs go.
        say: Told what the person at the terminal should know.
        on_change: Told the processes whenever they change.
    """

    def __init__(
        self, log_folder: Path, say: Callable[[str], None], on_change: Callable[[tuple[Child, ...]], None]
    ) -> None:
        self._log_folder = log_folder
        self._say = say
        self._on_change = on_change
        self._parts: dict[str, _Running] = {}
        self._next_log_check = 0.0

    @property
    def children(self) -> tuple[Child, ...]:
        """The processes as started last."""
        return tuple(running.child for running in self._parts.values())

    def start(self, part: Part) -> None:
        """Starts a part; `poll` then follows it."""
        self._log_folder.mkdir(parents=True, exist_ok=True)
        log = self._log_folder / f"{part.name}.log"
        self._limit(log)
        process, offset = _spawn(part, log)
        child = Child(name=part.name, pid=process.pid, created=started_at(process.pid))
        self._parts[part.name] = _Running(part, log, process, child, offset)
        self._on_change(self.children)

    def is_ready(self, *names: str) -> bool:
        """Whether these parts do their work."""
        return all(self._parts[name].ready for name in names)

    def poll(self) -> None:
        """Looks after every part once. Called often.

        Raises:
            PartFailed: One ended before it was ever ready, was not ready in time, or dies again and again.
        """
        for running in self._parts.values():
            if running.restart_at is not None:
                if time.monotonic() >= running.restart_at:
                    self._restart(running)
            elif running.process.poll() is not None:
                self._take_death(running)
            elif not running.ready:
                self._check_ready(running)
        if time.monotonic() >= self._next_log_check:
            self._next_log_check = time.monotonic() + LOG_CHECK_SECONDS
            for running in self._parts.values():
                if self._limit(running.log):
                    running.log_offset = 0

    def wait_ready(self, *names: str, until: Callable[[], bool]) -> bool:
        """Waits for parts to become ready, looking after all of them.

        Args:
            *names: The parts.
            until: Ends the wait early.

        Returns:
            Whether they are ready.

        Raises:
            PartFailed: As `poll`.
        """
        while not self.is_ready(*names):
            if until():
                return False
            self.poll()
            time.sleep(POLL_SECONDS)
        return True

    def stop(self, in_hurry: Callable[[], bool] = lambda: False) -> None:
        """Stops every part, and nothing else.

        Args:
            in_hurry: Asked while the parts end by themselves; when true, they are killed.
        """
        for last in (False, True):
            group = [running for running in self._parts.values() if running.part.stops_last == last]
            self._stop_group(group, in_hurry)
        self._parts.clear()

    @staticmethod
    def _stop_group(group: list[_Running], in_hurry: Callable[[], bool]) -> None:
        processes = {running.process.pid: running.process for running in group if not running.ended}
        grace = max((running.part.grace_seconds for running in group), default=0)
        stop_sessions(list(processes), lambda pid: processes[pid].poll() is not None, grace, in_hurry)
        for process in processes.values():
            process.wait()

    def _limit(self, log: Path) -> bool:
        """Puts a log aside that is too long. Returns whether it has done so."""
        try:
            return rotate(log)
        except OSError as error:
            self._next_log_check = time.monotonic() + LOG_TROUBLE_SECONDS
            self._say(f"{log} is over its limit, and what it holds cannot be put aside: {error.strerror}")
            return False

    def _check_ready(self, running: _Running) -> None:
        now = time.monotonic()
        if now < running.next_check:
            return
        running.next_check = now + READY_CHECK_SECONDS
        if running.part.is_ready(running.process.pid):
            running.ready = running.was_ready = True
        elif now - running.started > running.part.ready_seconds:
            raise self._failure(running, f"was not ready within {running.part.ready_seconds:.0f} s")

    def _take_death(self, running: _Running) -> None:
        # What it left behind must not work beside the next one. At once: later its id may be somebody else's.
        kill_session(running.process.pid)
        running.ready, running.ended = False, True
        ending = _ending(running.process.returncode)
        if not running.was_ready:
            raise self._failure(running, f"failed to start: it {ending}")
        now = time.monotonic()
        while running.deaths and now - running.deaths[0] > 60:
            running.deaths.popleft()
        running.deaths.append(now)
        count = len(running.deaths)
        if count > RESTARTS_A_MINUTE:
            raise self._failure(running, f"ended {count} times within a minute; the last time it {ending}")
        delay = min(0.25 * 2**count, LONGEST_BACKOFF_SECONDS)
        self._say(f"The part `{running.part.name}` {ending}. It is started again in {delay:.1f} s; log: {running.log}")
        running.restart_at = now + delay

    def _restart(self, running: _Running) -> None:
        running.process, running.log_offset = _spawn(running.part, running.log)
        running.child = Child(name=running.part.name, pid=running.process.pid, created=started_at(running.process.pid))
        running.started, running.restart_at, running.ended = time.monotonic(), None, False
        self._on_change(self.children)

    def _failure(self, running: _Running, problem: str) -> PartFailed:
        return PartFailed(running.part.name, problem, running.log, last_lines(running.log, running.log_offset))


def _spawn(part: Part, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Starts the process. Returns it, and where its own lines in the log begin."""
    with log.open("ab") as file:
        file.write(f"--- {part.name} started at {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z} ---\n".encode())
        file.flush()
        offset = file.tell()
        process = subprocess.Popen(
            list(part.command),
            env=part.env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C goes to this process only, which then ends the others in order.
            start_new_session=True,
        )
    return process, offset


def _ending(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
