"""Do our float32 features agree with those of the algorithm that this product replaces?

    python -m benchmarks.feature_parity IMAGES [--weights FILE.h5]

Both embed every picture of a folder with the same weights. It prints the lowest, the mean and the 1st percentile
of the cosines between the two.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.old_algorithm import OldAlgorithm
from common.images import EXTENSIONS, ImageDecoder
from common.settings import Settings
from common.weights import resolve_weights
from workers.extractor import load_extractor


def main() -> None:
    """Runs the comparison and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", default="untrained")
    arguments = parser.parse_args()
    settings = Settings(weights=arguments.weights, precision="float32")
    weights = resolve_weights(settings)
    extractor = load_extractor(settings, weights)
    decoder = ImageDecoder.for_files(settings, extractor.spec.input_size)
    old = OldAlgorithm(Path(weights.path) if weights.path else None)
    cosines = []
    for path in sorted(arguments.images.iterdir()):
        if path.suffix.lower() in EXTENSIONS:
            ours = extractor.extract(decoder.decode(path.read_bytes(), thumbnail=False).pixels[None])[0]
            with Image.open(path) as image:
                cosines.append(float(ours @ old.extract(image)))
    figures = {
        "images": len(cosines),
        "lowest_cosine": min(cosines),
        "percentile_1": float(np.percentile(cosines, 1)),
        "mean_cosine": float(np.mean(cosines)),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
