"""How long a search takes from the upload to the ranked results, over HTTP and an index of many images.

The peers are the model alone (one forward pass; the best batch) and the page that this product replaces, with the
same weights and the same features. Each precision gets a Redis, a query worker and a web tier, and is measured

- idle: one search after another,
- with many clients at once,
- busy: one search after another, while a bulk worker indexes photos all the time.

    python -m benchmarks.bench_query --images FOLDER
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.forward import best_batch, start_forward
from benchmarks.http_load import OldPageClient, ProductClient, many_at_once, one_after_another, upload_body
from benchmarks.measuring import Noise, at_least, at_most, machine
from benchmarks.peer_process import PeerProcess
from benchmarks.photos import copy_photos, photos_in
from benchmarks.query_world import Collection, running_old_page, system_for
from benchmarks.system import System, running_redis, running_web, wait_until

TARGETS = {
    "p50_to_forward_pass": 1.3,
    "p99_to_p50": 2.0,
    "busy_p95_to_idle_p50": 2.5,
    "many_clients_to_ceiling": 0.85,
    "queue_and_poll_p50_ms": 15.0,
}
WARM_UP_QUERIES = 20


class QueryBench:
    """The measurements of one precision.

    Args:
        system: A system with a query worker on a full index.
        address: Its web tier.
        photos: What is searched for.
        options: The command line.
    """

    def __init__(self, system: System, address: str, photos: list[Path], options: argparse.Namespace) -> None:
        self._system = system
        self._address = address
        self._bodies = [upload_body(photo, "image") for photo in photos]
        self._options = options

    def run(self) -> dict[str, Any]:
        """Measures everything."""
        options = self._options
        client = ProductClient(self._address)
        one_after_another(client, self._bodies, min(WARM_UP_QUERIES, options.queries))
        with start_forward(self._system, "query") as forward:
            threads = forward.greeting["threads"]
            batch, by_batch = best_batch(forward, options.scan_seconds)
            passes = [_one_pass(forward)]
            idle = one_after_another(ProductClient(self._address), self._bodies, options.queries)
            passes.append(_one_pass(forward))
            ceilings = [self._ceiling(forward, batch)]
            many = self._many()
            ceilings.append(self._ceiling(forward, batch))
        busy = self._busy()
        return {
            "targets": {
                "p50_to_forward_pass": at_most(
                    idle["p50_ms"] / statistics.mean(passes), TARGETS["p50_to_forward_pass"]
                ),
                "p99_to_p50": at_most(idle["p99_ms"] / idle["p50_ms"], TARGETS["p99_to_p50"]),
                "busy_p95_to_idle_p50": at_most(busy["p95_ms"] / idle["p50_ms"], TARGETS["busy_p95_to_idle_p50"]),
                "many_clients_to_ceiling": at_least(
                    many["images_per_second"] / statistics.mean(ceilings), TARGETS["many_clients_to_ceiling"]
                ),
                "queue_and_poll_p50_ms": at_most(idle["queue_and_poll_p50_ms"], TARGETS["queue_and_poll_p50_ms"]),
            },
            "forward_pass_ms_before_and_after": passes,
            "ceiling_images_per_second_before_and_after": ceilings,
            "threads": threads,
            "ceiling_batch": batch,
            "ceiling_by_batch": by_batch,
            "idle": idle,
            "many_clients": many,
            "busy": busy,
        }

    def _many(self) -> dict[str, Any]:
        options = self._options
        return many_at_once(lambda: ProductClient(self._address), self._bodies, options.clients, options.seconds)

    def _ceiling(self, forward: PeerProcess, batch: int) -> float:
        rate: float = forward.ask(batch=batch, seconds=self._options.ceiling_seconds)["images_per_second"]
        return rate

    def _busy(self) -> dict[str, Any]:
        """Searches while a bulk worker has more to do than it can."""
        system = self._system
        worker = system.start_worker("bulk")
        job_id = system.client.submit_index_job("more").id
        wait_until(lambda: system.client.job(job_id).done > 0, "the bulk worker embeds", every=0.2)
        done, began = system.client.job(job_id).done, time.monotonic()
        time.sleep(self._options.seconds)
        alone = (system.client.job(job_id).done - done) / (time.monotonic() - began)
        done, began = system.client.job(job_id).done, time.monotonic()
        # So long, too, because the worker counts its files by the dozen.
        figures = one_after_another(
            ProductClient(self._address), self._bodies, self._options.queries, least_seconds=self._options.seconds
        )
        seconds = time.monotonic() - began
        after = system.client.job(job_id)
        worker.kill()
        return figures | {
            "bulk_images_per_second": round((after.done - done) / seconds, 2),
            "bulk_images_per_second_without_searches": round(alone, 2),
            "bulk_had_work_all_the_time": after.state in {"running", "scanning"},
            "seconds": round(seconds, 1),
        }


def _one_pass(forward: PeerProcess) -> float:
    milliseconds: float = forward.ask(batch=1, seconds=0, least=50)["median_ms"]
    return milliseconds


def measure_old_page(collection: Collection, photos: list[Path], scratch: Path, options: Any) -> dict[str, Any]:
    """The old page: one search after another, then many clients at once."""
    folder = scratch / "old"
    folder.mkdir()
    collection.save_for_old_page(folder)
    bodies = [upload_body(photo, "query_img") for photo in photos]
    with running_old_page(folder, options.weights) as address:
        one_after_another(OldPageClient(address), bodies, 3)
        return {
            "idle": one_after_another(OldPageClient(address), bodies, options.old_queries),
            "many_clients": many_at_once(lambda: OldPageClient(address), bodies, options.clients, options.seconds),
        }


def measure(collection: Collection, bulk: Path, precision: Any, scratch: Path, options: Any) -> dict[str, Any]:
    """The product at one precision."""
    with running_redis() as url:
        folder = scratch / precision
        system = system_for(collection, bulk, folder, url, weights=options.weights, precision=precision)
        try:
            system.start_worker("query")
            system.start_worker("maintenance")
            collection.publish(system.settings, precision)
            picture = collection.photos[0].read_bytes()
            # A large collection gets its candidate index in the background.
            wait_until(lambda: "candidates" in system.search(picture).took_ms, "the index is in use", every=1.0)
            with running_web(system.settings) as address:
                return QueryBench(system, address, collection.photos, options).run()
        finally:
            system.stop()


def options_of(description: str | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of real photos")
    parser.add_argument("--indexed", type=int, default=10_000, help="images in the index")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--old-queries", type=int, default=50)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0, help="of many clients at once")
    parser.add_argument("--bulk-files", type=int, default=5000, help="what the bulk worker has to do meanwhile")
    parser.add_argument("--precisions", default="float32,bfloat16,int8")
    parser.add_argument("--weights", default="untrained")
    parser.add_argument("--ceiling-seconds", type=float, default=6.0, help="of the model alone, before and after")
    parser.add_argument("--scan-seconds", type=float, default=4.0, help="for each batch size, to find the best one")
    return parser.parse_args()


def main() -> None:
    """Measures and prints JSON."""
    options = options_of(__doc__)
    noise = Noise()
    with tempfile.TemporaryDirectory(prefix="imagesearch-query-") as name:
        scratch = Path(name)
        photos = photos_in(options.images)
        bulk = scratch / "more"
        copy_photos(photos, bulk, options.bulk_files)
        collection = Collection.make(photos, options.indexed)
        old = measure_old_page(collection, collection.photos, scratch, options)
        figures = {
            precision: measure(collection, bulk, precision, scratch, options)
            for precision in options.precisions.split(",")
        }
    result = {
        "targets": {precision: item.pop("targets") for precision, item in figures.items()},
        "times_faster_than_old_page": {
            precision: {
                "p50": round(old["idle"]["p50_ms"] / item["idle"]["p50_ms"], 2),
                "many_clients": round(
                    item["many_clients"]["images_per_second"] / max(0.01, old["many_clients"]["images_per_second"]), 2
                ),
            }
            for precision, item in figures.items()
        },
        "indexed": options.indexed,
        "weights": options.weights,
        **figures,
        "old_page": old,
        "noise": noise.report(),
        "machine": machine(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
