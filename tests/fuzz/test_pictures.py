"""The short form of `python -m tests.fuzz.pictures`."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.mutations import made_files
from tests.fuzz.pictures import SEED, Fuzzer


def test_mutated_pictures_are_refused_or_decoded(tmp_path: Path) -> None:
    files = made_files()
    fuzzer = Fuzzer(SEED, files, tmp_path)
    report = fuzzer.run(400, processes=2)
    assert report.findings == []
    assert report.outcomes.total() == 400
    assert {"decoded", "damaged-image", "unsupported-image"} <= set(report.outcomes)
    assert report.peak_mib > 0
    # A case that is found can be made again.
    again = Fuzzer(SEED, files, tmp_path)
    assert again.case(report.longest_case) == fuzzer.case(report.longest_case)
