"""How fast and how complete the ranking of large collections is, beside FAISS, the exact scan and the old list.

The collections are real photos, each in many variants, through a real model, and made up features of 4,096 values in
several sizes (see `benchmarks.made_features`). Queries are held out from the same distribution. A result counts as
right if it is as similar as the last of the true ones, which are found by comparing everything.

A million features take 8.5 GB on disk, which are kept for the next run if there is a cache folder, and all files
are in the page cache when the searches begin, as far as memory goes.

    python -m benchmarks.bench_ranking --images FOLDER --model FILE.keras --cache FOLDER
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.made_features import MadeFeatures, PhotoFeatures, Source
from benchmarks.measuring import Noise, at_least, at_most, machine
from benchmarks.ranking_peers import measure_peers
from benchmarks.ranking_product import measure_product
from benchmarks.ranking_world import WARM_UP_QUERIES, World, kept_or_temporary

TARGETS: dict[int, dict[str, float]] = {
    100_000: {"p50_ms": 5.0, "recall": 0.99},
    1_000_000: {
        "p50_ms": 10.0,
        "recall": 0.98,
        "anonymous_mb": 2500.0,
        "ready_seconds": 5.0,
        "added_searchable_seconds": 2.0,
    },
}
DISK_TARGET = 9.0


def photo_source(folder: Path, options: argparse.Namespace) -> PhotoFeatures:
    """The features of real photos; embedded unless they are there."""
    target = folder / f"photos-{Path(options.model).stem}-{options.variants}-{options.queries}"
    if not (target / "spec.json").exists():
        command = [sys.executable, "-m", "benchmarks.photo_features"]
        command += ["--images", str(options.images), "--model", str(options.model), "--to", str(target)]
        command += ["--variants", str(options.variants), "--queries", str(options.queries + WARM_UP_QUERIES)]
        # A process of its own: a network's memory stays. What it prints is not part of our document.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return PhotoFeatures.load(target)


def measure(folder: Path, source: Source, options: argparse.Namespace) -> dict[str, Any]:
    """One collection: the product, then its peers."""
    world = World(folder / f"world-{source.name}", source, options.queries)
    product = measure_product(world, options)
    figures = {
        "images": world.count,
        "dimension": source.spec.dimension,
        "made": world.made,
        "product": product,
        "peers": {} if options.no_peers else measure_peers(world, options),
    }
    return {"targets": targets(world.count, source, product), "times_faster_than": faster(figures), **figures}


def targets(count: int, source: Source, product: dict[str, Any]) -> dict[str, Any]:
    """The figures that have a target at this size, beside it."""
    wanted = TARGETS.get(count, {}) if isinstance(source, MadeFeatures) else {}
    start = product["start"]
    memory = max(part["anonymous_mb"] for name, part in start.items() if name != "ready_seconds")
    found = {
        "p50_ms": at_most(product["k_10"]["p50_ms"], wanted.get("p50_ms")),
        "recall": at_least(product["k_10"]["recall"], wanted.get("recall")),
        "anonymous_mb": at_most(memory, wanted.get("anonymous_mb")),
        "ready_seconds": at_most(start["ready_seconds"]["median"], wanted.get("ready_seconds")),
        "folder_right_answers": at_least(product["folder"]["right_answers"], 1.0),
    }
    if "adding" in product:
        seconds = product["adding"]["searchable_seconds"]["median"]
        found["added_searchable_seconds"] = at_most(seconds, wanted.get("added_searchable_seconds"))
        found["disk_kib_an_image"] = at_most(product["disk"]["all"], DISK_TARGET)
    return found


def faster(figures: dict[str, Any]) -> dict[str, float]:
    """How many times as long as the product's each peer's median query takes."""
    ours = figures["product"]["k_10"]["p50_ms"]
    return {name: round(peer["p50_ms"] / ours, 2) for name, peer in figures["peers"].items() if "p50_ms" in peer}


def options_of(description: str | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of real photos; without it only made up features")
    parser.add_argument("--model", default="vgg16", help="the .keras file that embeds the photos")
    parser.add_argument("--variants", type=int, default=20, help="of each photo")
    parser.add_argument("--sizes", default="10000,100000,1000000", help="of the collections of made up features")
    parser.add_argument("--cache", type=Path, help="a folder where the features are kept for the next run")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="how often each query is asked")
    parser.add_argument("--clients", default="1,4,16", help="numbers of clients that search at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each number of clients")
    parser.add_argument("--starts", type=int, default=3, help="how often the ranker is started")
    parser.add_argument("--additions", type=int, default=3, help="how often images are added")
    parser.add_argument("--threads", type=int, default=0, help="of the ranker; 0: one a core")
    parser.add_argument("--peer-seconds", type=float, default=30.0, help="of each peer; it may answer fewer queries")
    parser.add_argument("--hnsw-million", action="store_true", help="also build HNSW for a million: most of an hour")
    parser.add_argument("--no-peers", action="store_true", help="only the product")
    return parser.parse_args()


def main() -> None:
    """Measures and prints JSON."""
    options = options_of(__doc__)
    noise = Noise()
    collections: dict[str, Any] = {}
    with kept_or_temporary(options.cache) as folder:
        if options.images is not None:
            source = photo_source(folder, options)
            collections[f"photos_{source.count}"] = measure(folder, source, options)
        for size in map(int, filter(None, options.sizes.split(","))):
            collections[f"made_{size}"] = measure(folder, MadeFeatures(size), options)
    result = {
        "targets": {name: item.pop("targets") for name, item in collections.items()},
        "times_faster_than": {name: item.pop("times_faster_than") for name, item in collections.items()},
        "queries": options.queries,
        **collections,
        "noise": noise.report(),
        "machine": machine(["psutil"]),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
