"""OpenVINO, in float32, bfloat16 or int8; this interpreter needs no TensorFlow, for int8 it needs `nncf`.

    python -m benchmarks.runtimes.with_openvino FOLDER PRECISION THREADS SECONDS

With 0 seconds the model is only made: converted, for int8 calibrated, and saved in the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openvino

from benchmarks.runtimes.passes import CALIBRATION, INPUTS, Matrix, Run, measure

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


def make(folder: Path, precision: str, target: Path) -> None:
    """Converts the SavedModel, and quantises it for int8."""
    model = openvino.convert_model(folder / "saved_model")
    if precision == "int8":
        import nncf

        inputs = np.load(folder / INPUTS)
        pictures = [inputs[number : number + 1] for number in range(CALIBRATION)]
        model = nncf.quantize(model, nncf.Dataset(pictures), subset_size=CALIBRATION)
    openvino.save_model(model, target, compress_to_fp16=False)


def main() -> None:
    """Makes the model, or measures it."""
    folder, precision, threads, seconds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    path = folder / f"openvino-{'int8' if precision == 'int8' else 'float32'}.xml"
    if not seconds:
        if not path.exists():
            make(folder, precision, path)
        return
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
    }

    def load(batch: int) -> Run:
        core = openvino.Core()
        model = core.read_model(path)
        model.reshape({0: [batch, 224, 224, 3]})
        compiled = core.compile_model(model, "CPU", options)

        def run(pictures: Matrix) -> Matrix:
            features: Matrix = compiled(pictures)[0]
            return features

        return run

    measure(folder, load, seconds, "openvino")


if __name__ == "__main__":
    main()
