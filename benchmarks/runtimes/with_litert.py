"""LiteRT, in int8 with dynamic ranges.

A part of `benchmarks.bench_runtimes`:

    python -m benchmarks.runtimes.with_litert FOLDER PRECISION THREADS SECONDS
"""

from __future__ import annotations

import sys
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from benchmarks.runtimes.passes import Matrix, Run, measure


def main() -> None:
    """Measures."""
    folder, _, threads, seconds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])

    def load(batch: int) -> Run:
        interpreter = Interpreter(model_path=str(folder / "int8.tflite"), num_threads=threads)
        source = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(source, (batch, 224, 224, 3))
        interpreter.allocate_tensors()
        target = interpreter.get_output_details()[0]["index"]

        def run(pictures: Matrix) -> Matrix:
            interpreter.set_tensor(source, pictures)
            interpreter.invoke()
            features: Matrix = interpreter.get_tensor(target)
            return features

        return run

    measure(folder, load, seconds, "ai-edge-litert")


if __name__ == "__main__":
    main()
