"""The supervisor, with tiny programs for parts."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from common.up.logs import rotate
from common.up.processes import started_at, stop_leftovers
from common.up.run_record import Child
from common.up.supervisor import Part, PartFailed, Supervisor

STAYS = "import time; time.sleep(60)"
IGNORES_TERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); " + STAYS
HAS_A_CHILD = (
    f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', '{STAYS}']); print(p.pid, flush=True); "
    "p.wait()"
)


def never() -> bool:
    return False


class Run:
    """A supervisor whose words and records are kept."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder
        self.said: list[str] = []
        self.recorded: tuple[Child, ...] = ()
        self.supervisor = Supervisor(folder, self.said.append, self._record)

    def _record(self, children: tuple[Child, ...]) -> None:
        self.recorded = children

    def start(self, name: str, code: str, is_ready: Callable[[int], bool] = lambda _: True, **options: object) -> int:
        """Starts a Python one-liner as a part, and gives its pid."""
        part = Part(name, [sys.executable, "-c", code], is_ready, **options)  # type: ignore[arg-type]
        self.supervisor.start(part)
        return self.recorded[-1].pid

    def poll_until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Looks after the parts until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not in time; said: {self.said}"
            self.supervisor.poll()
            time.sleep(0.02)

    def output(self, name: str) -> str:
        """The log of a part, without the lines that say when it was started."""
        text = (self.logs / f"{name}.log").read_text()
        return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("---"))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "logs")
    yield run
    run.supervisor.stop(lambda: True)


def test_a_part_that_ends_before_it_is_ready_is_named_with_the_end_of_its_log(run: Run) -> None:
    run.start("bulk", "print('line one'); print('cannot find the model'); raise SystemExit(4)", lambda _: False)
    with pytest.raises(PartFailed) as caught:
        run.supervisor.wait_ready("bulk", until=never)
    assert caught.value.name == "bulk"
    assert caught.value.tail.splitlines() == ["line one", "cannot find the model"]
    assert "`bulk` failed to start: it ended with exit code 4" in str(caught.value)
    assert str(run.logs / "bulk.log") in str(caught.value)


def test_the_end_of_the_log_is_of_this_start_only(run: Run) -> None:
    run.logs.mkdir()
    (run.logs / "web.log").write_text("an old trouble\n")
    run.start("web", "raise SystemExit('a new trouble')", lambda _: False)
    with pytest.raises(PartFailed) as caught:
        run.supervisor.wait_ready("web", until=never)
    assert caught.value.tail == "a new trouble"
    assert "an old trouble" in run.output("web")


def test_a_part_that_is_not_ready_in_time_is_named(run: Run) -> None:
    run.start("query", STAYS, lambda _: False, ready_seconds=0.3)
    with pytest.raises(PartFailed, match=r"`query` was not ready within 0 s"):
        run.supervisor.wait_ready("query", until=never)


def test_the_ready_check_gets_the_pid_and_is_asked_again(run: Run) -> None:
    asked: list[int] = []
    pid = run.start("web", STAYS, lambda pid: asked.append(pid) or len(asked) == 2)  # type: ignore[func-returns-value]
    assert run.supervisor.wait_ready("web", until=never)
    assert asked == [pid, pid]


def test_waiting_ends_on_request(run: Run) -> None:
    run.start("web", STAYS, lambda _: False)
    assert not run.supervisor.wait_ready("web", until=lambda: True)


def test_stop_ends_the_parts_with_all_they_started_and_nothing_else(run: Run) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", STAYS], start_new_session=True)
    try:
        parent = run.start("web", HAS_A_CHILD)
        run.poll_until(lambda: run.output("web").endswith("\n"))
        child = int(run.output("web"))
        assert psutil.pid_exists(child)
        run.supervisor.stop()
        assert not psutil.pid_exists(parent)
        _, alive = psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], timeout=20)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_part_that_does_not_listen_is_killed_after_its_grace(run: Run) -> None:
    pid = run.start("bulk", IGNORES_TERM, grace_seconds=0.3)
    run.poll_until(lambda: "deaf" in run.output("bulk"))
    run.supervisor.stop()
    assert not psutil.pid_exists(pid)


def test_in_a_hurry_nobody_is_waited_for(run: Run) -> None:
    run.start("bulk", IGNORES_TERM, grace_seconds=60)
    run.poll_until(lambda: "deaf" in run.output("bulk"))
    began = time.monotonic()
    run.supervisor.stop(lambda: True)
    assert time.monotonic() - began < 10


def test_what_the_others_need_stops_last(run: Run, tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    code = (
        "import pathlib, signal, sys, time\n"
        f"def end(*_): pathlib.Path({str(ends)!r}).open('a').write('{{name}} '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    run.start("redis", code.replace("{name}", "redis"), stops_last=True)
    run.start("bulk", code.replace("{name}", "bulk"))
    run.poll_until(lambda: "up" in run.output("redis") and "up" in run.output("bulk"))
    run.supervisor.stop()
    assert ends.read_text() == "bulk redis "


def test_a_part_that_dies_while_running_is_started_again(run: Run) -> None:
    pid = run.start("query", STAYS)
    assert run.supervisor.wait_ready("query", until=never)
    os.kill(pid, signal.SIGKILL)
    run.poll_until(lambda: run.recorded[0].pid != pid)
    assert run.supervisor.wait_ready("query", until=never)
    assert len(run.said) == 1
    assert "`query` was ended by signal 9" in run.said[0]


def test_a_part_that_dies_again_and_again_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.up.supervisor.LONGEST_BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr("common.up.supervisor.READY_CHECK_SECONDS", 0.0)
    run.start("web", "import time; time.sleep(0.3); raise SystemExit('worn out')")
    with pytest.raises(PartFailed, match="ended 6 times within a minute") as caught:
        run.poll_until(never)
    assert caught.value.tail == "worn out"
    assert len(run.said) == 5


def test_a_log_that_is_too_long_is_put_aside_while_the_part_writes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 20_000
    monkeypatch.setattr("common.up.supervisor.rotate", partial(rotate, limit_bytes=limit))
    monkeypatch.setattr("common.up.supervisor.LOG_CHECK_SECONDS", 0.0)
    # Python holds the file by two descriptors and children of it by more, as the workers do.
    code = (
        "import itertools, subprocess, sys, time\n"
        "for number in itertools.count():\n"
        "    print(f'line {number:06} ' + 'x' * 80, flush=True)\n"
        "    print(f'note {number:06} ' + 'y' * 80, flush=True, file=sys.stderr)\n"
        "    number % 100 or subprocess.run(['echo', f'echo {number:06}'])\n"
        "    time.sleep(0.0005)\n"
    )
    pid = run.start("bulk", code)
    logs = [run.logs / name for name in ("bulk.log.2", "bulk.log.1", "bulk.log")]
    run.poll_until(lambda: logs[0].exists() and logs[2].stat().st_size > 0)
    assert run.recorded[0].pid == pid  # nothing was started again
    run.supervisor.stop()
    texts = [log.read_text() for log in logs]
    assert sorted(path.name for path in run.logs.iterdir()) == ["bulk.log", "bulk.log.1", "bulk.log.2"]
    assert all(len(text) > limit for text in texts[:2])
    assert "\0" not in texts[2]  # it was emptied, and not written on at its old end
    numbers = [int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("line ")]
    assert len(numbers) > 100
    assert numbers == sorted(numbers)


def test_of_a_long_log_only_so_many_older_ones_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    assert not rotate(log, 10)
    for text in ("the first\n", "the second\n", "the third\n", "the fourth\n"):
        log.write_text(text)
        assert rotate(log, len(text)) is False
        assert rotate(log, len(text) - 1) is True
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"web.log": "", "web.log.1": "the fourth\n", "web.log.2": "the third\n"}


def test_a_log_that_cannot_be_put_aside_stays_and_that_is_told_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.logs.mkdir()
    log = run.logs / "web.log"
    log.write_text("old\n" * 1000)
    monkeypatch.setattr("common.up.supervisor.rotate", partial(rotate, limit_bytes=100))

    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("common.up.logs.shutil.copyfileobj", is_full)
    run.start("web", STAYS)
    assert run.supervisor.wait_ready("web", until=never)
    run.supervisor.poll()
    (told,) = run.said
    assert str(log) in told
    assert "No space left on device" in told
    assert log.read_text().startswith("old\n" * 1000)
    assert [path.name for path in run.logs.iterdir()] == ["web.log"]


def test_leftovers_are_stopped_only_if_they_are_the_recorded_processes() -> None:
    ours = subprocess.Popen([sys.executable, "-c", STAYS], start_new_session=True)
    other = subprocess.Popen([sys.executable, "-c", STAYS], start_new_session=True)
    try:
        children = [
            Child(name="web", pid=ours.pid, created=started_at(ours.pid)),
            # The same number, but the recorded process was an older one.
            Child(name="bulk", pid=other.pid, created=started_at(other.pid) - 3600),
        ]
        # The parent here must collect the process for it to be gone; after a killed `up` the system does.
        reaper = _reap(ours)
        assert stop_leftovers(children, psutil.boot_time(), 5) == ["web"]
        reaper()
        assert ours.returncode is not None
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_leftovers_whose_first_process_is_gone_are_stopped() -> None:
    code = (
        "import subprocess as s, sys\n"
        f"print(s.Popen([sys.executable, '-c', '{STAYS}'], stdout=s.DEVNULL).pid, flush=True)\n"
        "sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    leader = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdin=pipe, stdout=pipe, text=True)
    created = started_at(leader.pid)
    assert leader.stdout is not None
    orphan = psutil.Process(int(leader.stdout.readline()))
    leader.communicate()  # it ends when its input does
    try:
        children = [Child(name="bulk", pid=leader.pid, created=created)]
        assert stop_leftovers(children, psutil.boot_time() - 3600, 1) == []  # numbers of an earlier boot mean nothing
        assert orphan.is_running()
        assert stop_leftovers(children, psutil.boot_time(), 1) == ["bulk"]
        psutil.wait_procs([orphan], timeout=20)
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    finally:
        if orphan.is_running():
            orphan.kill()


def _reap(process: subprocess.Popen[bytes]) -> Callable[[], None]:
    thread = threading.Thread(target=process.wait)
    thread.start()
    return thread.join
