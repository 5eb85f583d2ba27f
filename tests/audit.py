"""Looks up what the lock files pin in the database of known vulnerabilities: `make audit`.

A finding ends it with 1. Where the database cannot be reached, as on a machine without internet, it says that nothing
was looked up and ends with 0: that is no verdict on the packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        looked_up: Packages whose version was looked up.
        unknown: Those that the database could not be asked about.
        findings: A line for each known vulnerability.
    """

    looked_up: int = 0
    unknown: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


def outcome_of(printed: str) -> Outcome:
    """Reads what `pip-audit --format json` printed; it prints nothing where it cannot connect."""
    if not printed.strip():
        return Outcome()
    # It answers 0 also where it could ask about no package at all, so its exit code is not enough.
    packages = json.loads(printed)["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    return Outcome(
        looked_up=len(known),
        unknown=tuple(package["name"] for package in packages if "skip_reason" in package),
        findings=tuple(
            f"{package['name']} {package['version']}: {found['id']}, "
            f"mended in {', '.join(found['fix_versions']) or 'no version yet'}"
            for package in known
            for found in package["vulns"]
        ),
    )


def verdict(outcome: Outcome) -> tuple[int, str]:
    """The exit code, and what to print."""
    if not outcome.looked_up:
        return 0, "audit: NOT RUN, the database of known vulnerabilities cannot be reached"
    lines = [f"audit: {outcome.looked_up} packages looked up, known vulnerabilities: {len(outcome.findings)}"]
    if outcome.unknown:
        lines.append(f"  not looked up: {', '.join(outcome.unknown)}")
    lines += [f"  {finding}" for finding in outcome.findings]
    return int(bool(outcome.findings)), "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Audits all lock files together.

    Args:
        arguments: The program `pip-audit`.

    Returns:
        0 if nothing is known of what was looked up, 1 if something is.
    """
    (program,) = arguments
    command = [program, "--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json"]
    for lock in [ROOT / "requirements.txt", *sorted(ROOT.glob("requirements/*.txt"))]:
        command += ["-r", str(lock)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    code, text = verdict(outcome_of(run.stdout))
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
