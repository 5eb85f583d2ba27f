"""Makes small collections and plays the query worker, so that the web tier is tested without a model."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path

import numpy as np
import redis
from PIL import Image

from common.errors import ImageRejected
from common.images import ImageDecoder, make_thumbnail
from common.messages import SearchHit, SearchResult, WorkerInfo
from common.models import ModelSpec, publish_model
from common.redis_client import key
from common.searches import QueryFeature, SearchBoard
from common.settings import Settings
from common.store import CatalogEntry, FeatureStore, ImageRecord, open_store
from tests.fakes import FAKE_SPEC

SPEC = FAKE_SPEC.model_copy(update={"architecture": "tiny", "layer": "fc1"})
LEAST_FOR_PERCENTILES = 10


def picture_bytes(color: str = "teal", size: tuple[int, int] = (48, 32), image_format: str = "JPEG") -> bytes:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, image_format)
    return buffer.getvalue()


def index_files(
    settings: Settings, library: Path, names: Sequence[str], *, segment: str = "first", spec: ModelSpec = SPEC
) -> list[CatalogEntry]:
    """Publishes files of the library (made where they are missing) as one segment of the model in use."""
    publish_model(settings, spec)
    store = open_store(settings)
    records, thumbnails = [], []
    for name in names:
        path = library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(picture_bytes())
        data = path.read_bytes()
        with Image.open(path) as image:
            thumbnails.append(make_thumbnail(image))
            size = image.size
        records.append(
            ImageRecord("photos", name, len(data), path.stat().st_mtime_ns, sha256(data).digest(), *size, sequence=1)
        )
    features = np.random.default_rng(0).normal(size=(len(names), spec.dimension))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    store.publish(segment, precision="float32", records=records, features=features, thumbnails=thumbnails)
    store.refresh()
    return [entry for name in names if (entry := store.catalog.by_path(f"photos/{name}"))]


def search_board(settings: Settings) -> SearchBoard:
    """The board as the workers see it."""
    client = redis.Redis.from_url(settings.redis_url)
    return SearchBoard.of(settings, client)


def hits(store: FeatureStore, limit: int, folder: str | None = None, after_rank: int = 0) -> list[SearchHit]:
    """The first images of the store as if they were the most similar ones; those behind a rank."""
    entries = list(store.catalog.below(folder, limit=after_rank + limit))[after_rank:]
    calibrated = len(store) >= LEAST_FOR_PERCENTILES
    return [
        SearchHit(
            rank=rank,
            image_id=entry.image_id,
            path=entry.path,
            width=entry.record.width,
            height=entry.record.height,
            score=max(-1.0, 1 - 0.013 * (rank - 1)),
            distance=float(np.sqrt(0.026 * (rank - 1))),
            percentile=max(0.0, round(100 - 0.37 * (rank - 1), 4)) if calibrated else None,
            content_hash=entry.record.content_hash.hex(),
        )
        for rank, entry in enumerate(entries, after_rank + 1)
    ]


def answer_search(settings: Settings, search_id: str, *, error: str | None = None) -> SearchResult:
    """Plays the query worker for one search, its next pages and the previews of its pictures included."""
    board = search_board(settings)
    taken = board.take(search_id)
    assert taken is not None, "nobody else answers searches"
    record = taken.record
    store = open_store(settings)
    store.refresh()
    query = record.query
    before = 0 if query.after is None else query.after.rank
    found = [] if error else hits(store, query.k + 1, query.folder, before)
    found = [hit for hit in found if query.min_score is None or hit.score >= query.min_score]
    has_next = len(found) > query.k
    result = SearchResult(
        id=search_id,
        state="failed" if error else "done",
        model=store.spec.name,
        trained=store.spec.trained,
        took_ms={"total": 41.5, "embed": 30.0},
        indexed=len(store),
        results=found[: query.k],
        next_cursor=search_id if has_next else None,
        error=error,
    )
    feature = QueryFeature(store.spec.fingerprint, b"") if has_next and query.after is None else None
    board.finish(record, result, feature)
    if error is None:
        keep_previews(settings, search_id, taken.uploads or ())
    return result


def keep_previews(settings: Settings, search_id: str, uploads: Iterable[bytes]) -> None:
    """Makes the previews of the uploads of a search, as the query worker does after it."""
    decoder, board = ImageDecoder.for_uploads(settings), search_board(settings)
    for number, upload in enumerate(uploads):
        with suppress(ImageRejected):
            board.pictures.keep(search_id, number, decoder.preview(upload))


def report_worker(settings: Settings, queue: str = "query", state: str = "idle", **facts: object) -> None:
    """Leaves the record of a live worker in Redis."""
    name = f"{queue}@desk:4711"
    info = WorkerInfo.model_validate(
        {
            "name": name,
            "host": "desk",
            "pid": 4711,
            "queues": [queue],
            "state": state,
            "precision": "bfloat16",
            "last_seen": datetime.now(timezone.utc),
            **facts,
        }
    )
    with redis.Redis.from_url(settings.redis_url) as client:
        client.set(key("worker", name), info.model_dump_json(), ex=3600)
