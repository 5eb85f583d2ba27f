"""Thousands of requests to a real server: those that Schemathesis makes of the API's document, and the attacks.

    python -m tests.fuzz.requests --count 10000

No answer may be a 500, or hold anything of a file outside the library; the server must answer after it. Ends with 1
otherwise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.request import urlopen

from benchmarks.system import running_redis, web_processes
from common.settings import LibraryRoot, Settings
from tests.fuzz.world import World, attacked_world
from tests.unit.helpers import REPOSITORY

CONFORMANCE = REPOSITORY / "tests" / "unit" / "web" / "conformance.toml"
# Schemathesis ends each run when it has tried what it wanted to; then another one begins, with another seed.
EXAMPLES = 200


@dataclass
class Tally:
    """What came of the requests so far."""

    count: int = 0
    longest: float = 0.0
    failed: int = 0

    def take(self, notes: Path) -> None:
        """Adds what the hooks noted."""
        for line in notes.read_text(encoding="utf-8").splitlines() if notes.exists() else ():
            status, seconds, leaked, what = line.split(" ", 3)
            self.count += 1
            self.longest = max(self.longest, float(seconds))
            if int(status) == 500 or leaked == "1":
                self.failed += 1
                print(f"FAILED: {status} {what}{' (a file outside the library)' if leaked == '1' else ''}")
        notes.unlink(missing_ok=True)


def make_up(world: World, folder: Path, seed: int, tally: Tally) -> None:
    """One run of Schemathesis. What it finds beside failures of the server is for the conformance test."""
    text = CONFORMANCE.read_text(encoding="utf-8")
    text = text.replace("seed = 1\n", f"seed = {seed}\n").replace("max-examples = 25", f"max-examples = {EXAMPLES}")
    config, notes = folder / "conformance.toml", folder / "notes"
    config.write_text(Template(text).substitute(world.known), encoding="utf-8")
    command = [
        "--config-file",
        str(config),
        "run",
        f"{world.address}/api/v1/openapi.json",
        "--checks",
        "not_a_server_error",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(REPOSITORY), "FUZZ_NOTES": str(notes)}
    # In a folder of its own: it leaves caches where it runs.
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *command],
        env={**os.environ, **world.known, **hooks},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    before = tally.count
    tally.take(notes)
    if tally.count == before:
        raise RuntimeError(done.stdout + done.stderr)


def peak_bytes() -> int:
    """The most memory that any process of the server had."""
    servers = web_processes()
    peaks = []
    for server in servers:
        lines = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8").splitlines()
        peaks += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return max(peaks)


def run(count: int, seed: int, folder: Path) -> bool:
    """Sends so many requests. Returns whether all went well."""
    began, tally = time.monotonic(), Tally()
    library = folder / "photos"
    library.mkdir()
    with running_redis() as url:
        settings = Settings(
            redis_url=url, data_dir=folder / "data", library_roots=(LibraryRoot(name="photos", path=library),)
        )
        with attacked_world(settings, folder) as world:
            problems, attacks, longest = world.attack()
            while tally.count + attacks < count:
                make_up(world, folder, seed, tally)
                seed += 1
            more, _, again = world.attack()  # after all that
            problems += more
            with urlopen(f"{world.address}/healthz", timeout=60) as response:
                problems += [] if response.status == 200 else ["the server does not answer any more"]
            peak = peak_bytes()
    for problem in problems:
        print(f"FAILED: {problem}")
    total = tally.count + 2 * attacks
    print(
        f"{total:,} requests, {attacks} attacks twice among them, in {time.monotonic() - began:.0f} s: "
        f"{len(problems) + tally.failed} failed; longest {max(tally.longest, longest, again):.2f} s; "
        f"web process at most {peak / 2**20:.0f} MiB"
    )
    return not problems and not tally.failed


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="requests at least")
    parser.add_argument("--seed", type=int, default=1, help="of the first run of Schemathesis")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return 0 if run(options.count, options.seed, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
