"""The same network in several runtimes, side by side: VGG16 up to fc1, with untrained weights.

TensorFlow in float32 and bfloat16, LiteRT in int8 (dynamic range), and OpenVINO in all three, if an interpreter
is named that has it. The runtimes take turns for some rounds; each turn is a process of its own.

    python -m benchmarks.bench_runtimes --images FOLDER [--openvino-python PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measuring import Noise, cores, machine, repeated
from benchmarks.runtimes.passes import BATCHES

NOT_INSTALLED = "not installed"
_PROJECT = str(Path(__file__).parents[1])


class Runtime:
    """A row of the table.

    Args:
        name: Of the runtime, as its module has it.
        precision: Of its arithmetic.
        python: The interpreter; None if there is none.
        options: The command line.
        scratch: What `prepare` made.
    """

    def __init__(
        self, name: str, precision: str, python: str | None, options: argparse.Namespace, scratch: Path
    ) -> None:
        self.label = f"{name} {precision}"
        self._module = f"benchmarks.runtimes.with_{name}"
        self._precision = precision
        self._python = python
        self._options = options
        self._scratch = scratch
        self._turns: list[dict[str, Any]] = []

    def imports(self, *modules: str) -> bool:
        """Whether the interpreter has these modules; if not, the runtime is left out from now on."""
        command = [self._python or "", "-c", f"import {', '.join(modules)}"]
        if self._python is None or subprocess.run(command, capture_output=True, check=False).returncode:
            self._python = None
        return self._python is not None

    def make(self) -> None:
        """Converts the model, if the runtime has a format of its own."""
        self._run(0)

    def turn(self) -> None:
        """Measures once."""
        if self._python is not None:
            self._turns.append(json.loads(self._run(self._options.seconds).splitlines()[-1]))

    def row(self) -> dict[str, Any] | str:
        """The figures, medians over the rounds."""
        if not self._turns:
            return NOT_INSTALLED
        last = self._turns[-1]
        row: dict[str, Any] = {"version": last["version"], "cosine_to_float32": last["cosine_to_float32"]}
        for batch in BATCHES:
            turns = [turn[f"batch_{batch}"] for turn in self._turns]
            row[f"batch_{batch}"] = {key: repeated([turn[key] for turn in turns]) for key in turns[0]}
        row["peak_rss_mb"] = max(turn["peak_rss_mb"] for turn in self._turns)
        return row

    def _run(self, seconds: float) -> str:
        arguments = [str(self._scratch), self._precision, str(self._options.threads), str(seconds)]
        return run_module(self._python or "", self._module, *arguments)


def run_module(python: str, module: str, *arguments: str) -> str:
    """Runs a module of the project with an interpreter. Returns what it printed."""
    variables = {**os.environ, "PYTHONPATH": _PROJECT, "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run([python, "-m", module, *arguments], env=variables, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def runtimes(options: argparse.Namespace, scratch: Path) -> list[Runtime]:
    """All of them; those that cannot be had are rows without figures."""
    here, there = sys.executable, options.openvino_python
    rows = [Runtime("tensorflow", precision, here, options, scratch) for precision in ("float32", "bfloat16")]
    litert = Runtime("litert", "int8", here, options, scratch)
    litert.imports("ai_edge_litert")
    rows.append(litert)
    for precision in ("float32", "bfloat16", "int8"):
        openvino = Runtime("openvino", precision, there, options, scratch)
        if openvino.imports("openvino", *(["nncf"] if precision == "int8" else [])):
            openvino.make()
        rows.append(openvino)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of real photos")
    parser.add_argument("--openvino-python", help="a Python interpreter with openvino, and nncf for int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each batch size in a round")
    parser.add_argument("--threads", type=int, default=cores())
    options = parser.parse_args()
    noise = Noise()
    with tempfile.TemporaryDirectory(prefix="imagesearch-runtimes-") as name:
        scratch = Path(name)
        run_module(sys.executable, "benchmarks.runtimes.prepare", str(scratch), str(options.images.absolute()))
        rows = runtimes(options, scratch)
        for _ in range(options.rounds):
            for row in rows:
                row.turn()
    figures = {row.label: row.row() for row in rows}
    result = {
        f"times_tensorflow_float32_batch_{batch}": {
            label: round(rate / _rate(figures["tensorflow float32"], batch), 2)
            for label, row in figures.items()
            if (rate := _rate(row, batch))
        }
        for batch in BATCHES
    }
    result |= {"threads": options.threads, "runtimes": figures, "noise": noise.report(), "machine": machine()}
    print(json.dumps(result, indent=1))


def _rate(row: dict[str, Any] | str, batch: int) -> float:
    return 0.0 if isinstance(row, str) else float(row[f"batch_{batch}"]["images_per_second"]["median"])


if __name__ == "__main__":
    main()
