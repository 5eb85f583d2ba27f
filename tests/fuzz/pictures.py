"""Sends mutated pictures through real decoder processes.

    python -m tests.fuzz.pictures --count 20000

Each case follows from the seed and its number alone. A case that ends its decoder, overruns its limits or meets an
error that nobody has thought of is written to `build/fuzz/`, and the command fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count as counter
from pathlib import Path

import numpy as np

from common.errors import DecoderFault, ImageRejected, kind_of
from common.images import pixel_gate
from common.settings import Settings
from tests.conftest import ASSETS
from tests.fuzz.mutations import found_files, made_files, mutated
from workers.decoders.pool import MOST_PICTURES
from workers.decoders.process import DecoderLost, DecoderOptions, DecoderProcess
from workers.decoders.protocol import Request, Wanted

SEED = 20_000
_INPUT_SIZE = (224, 224)


@dataclass
class Report:
    """What came of it.

    Attributes:
        outcomes: How many cases ended how: `decoded`, or the kind of the error.
        findings: Cases that should not end as they did.
        longest_seconds: The longest time of one picture.
        longest_case: Its number.
        peak_mib: The most memory of one decoder process.
        peak_case: The picture that needed it.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0
    longest_case: int = -1
    peak_mib: float = 0.0
    peak_case: int = -1


class Fuzzer:
    """Decodes mutated pictures and keeps the books.

    Args:
        seed: Decides, with the number of a case, everything.
        files: Good files, by name.
        folder: Where what was found is written.
    """

    def __init__(self, seed: int, files: dict[str, bytes], folder: Path) -> None:
        self._seed = seed
        self._names = sorted(files)
        self._files = [files[name] for name in self._names]
        self._folder = folder
        self._options = DecoderOptions(_INPUT_SIZE, Settings().max_image_pixels)
        self._hold = pixel_gate().hold
        self._lock = threading.Lock()
        self.report = Report()

    def case(self, number: int) -> tuple[str, bytes]:
        """The name of the file that it is made from, and the mutated picture."""
        rng = np.random.default_rng([self._seed, number])
        chosen = int(rng.integers(len(self._files)))
        return self._names[chosen], mutated(self._files[chosen], rng, self._files)

    def run(self, count: int, processes: int) -> Report:
        """Decodes the first cases, in several processes at a time."""
        numbers, failures = counter(), list[BaseException]()

        def work() -> None:
            try:
                self._work(numbers, count)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work) for _ in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return self.report

    def _work(self, numbers: counter[int], count: int) -> None:
        process: DecoderProcess | None = None
        while (number := next(numbers)) < count:
            name, data = self.case(number)
            if process is None or process.pictures >= MOST_PICTURES:
                if process is not None:
                    process.close()
                process = DecoderProcess(self._options)
            _forget_peak(process.pid)
            began = time.monotonic()
            wanted = (Wanted.PIXELS_AND_THUMBNAIL, Wanted.PREVIEW)[number % 4 == 3]
            outcome, detail = "decoded", ""
            try:
                process.decode(Request(data, wanted), self._hold)
            except DecoderLost as lost:
                outcome, detail, process = kind_of(lost.error), str(lost), None
            except DecoderFault as fault:
                outcome, detail = kind_of(fault), f"{fault}\n{fault.__cause__}"
            except ImageRejected as error:
                outcome = kind_of(error)
            peak = 0.0 if process is None else _peak_mib(process.pid)
            self._count(number, outcome, time.monotonic() - began, peak)
            if detail:
                self._keep(number, name, data, outcome, detail)
        if process is not None:
            process.close()

    def _count(self, number: int, outcome: str, seconds: float, peak: float) -> None:
        with self._lock:
            report = self.report
            report.outcomes[outcome] += 1
            if seconds > report.longest_seconds:
                report.longest_seconds, report.longest_case = seconds, number
            if peak > report.peak_mib:
                report.peak_mib, report.peak_case = peak, number

    def _keep(self, number: int, name: str, data: bytes, outcome: str, detail: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"picture-{self._seed}-{number}"
        path.write_bytes(data)
        with self._lock:
            self.report.findings.append(f"{path}: {outcome}, made from {name}: {detail}")
            print(self.report.findings[-1], file=sys.stderr, flush=True)


def _forget_peak(pid: int) -> None:
    """Lets the peak of a process's memory begin anew."""
    with suppress(OSError):  # not Linux, or not allowed: then it is that of all pictures of the process
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _peak_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="Sends mutated pictures through decoder processes.")
    parser.add_argument("--count", type=int, default=20_000, help="how many (20000)")
    parser.add_argument("--seed", type=int, default=SEED, help="decides all mutations")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many decode at a time")
    options = parser.parse_args()
    files = {**made_files(), **found_files(ASSETS / "images")}
    fuzzer = Fuzzer(options.seed, files, Path("build") / "fuzz")
    report = fuzzer.run(options.count, options.processes)
    figures = {
        "pictures": options.count,
        "seed": options.seed,
        "files": len(files),
        "outcomes": dict(report.outcomes.most_common()),
        "longest_seconds": round(report.longest_seconds, 2),
        "made_from": fuzzer.case(report.longest_case)[0],
        "peak_mib": round(report.peak_mib),
        "peak_made_from": fuzzer.case(report.peak_case)[0],
        "findings": len(report.findings),
    }
    print(json.dumps(figures, indent=1))
    sys.exit(1 if report.findings else 0)


if __name__ == "__main__":
    main()
