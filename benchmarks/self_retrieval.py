"""Does every indexed picture find itself? Each one is uploaded as a query after the folder was indexed.

    python -m benchmarks.self_retrieval IMAGES [--model vgg16] [--weights untrained]

The script starts a Redis and workers of its own. It prints how many pictures were ranked first by a search for
themselves, and the lowest score that one of them got.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.system import temporary_system


def main() -> None:
    """Runs the check and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--weights", default="untrained")
    arguments = parser.parse_args()
    with temporary_system(arguments.images, arguments.model, arguments.weights) as system:
        bulk = system.start_worker("bulk", ready=False)
        system.start_worker("query")
        bulk.wait_ready()
        job = system.index("images", seconds=7200)
        firsts, lowest = 0, 1.0
        paths = [path for path in sorted(arguments.images.iterdir()) if path.is_file()]
        for path in paths:
            best = system.search(path.read_bytes(), k=1).results[0]
            if best.path == f"images/{path.name}":
                firsts += 1
                lowest = min(lowest, best.score)
    print(json.dumps({"indexed": job.done, "queries": len(paths), "first": firsts, "lowest_score": lowest}, indent=1))


if __name__ == "__main__":
    main()
