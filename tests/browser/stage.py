"""What scenes are set on: a server on a collection of generated pictures, with somebody who plays the workers.

Everything but the network is real: the searches, the percentiles, the previews and the duplicates are computed by the
workers' own code, in a thread, with a model that needs no TensorFlow.
"""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import redis
from PIL import Image
from pydantic import SecretStr

from benchmarks.system import running_redis, running_web, wait_until
from common.celery_app import BULK, FIND_DUPLICATES, MAINTENANCE, QUERY, QUEUES, SEARCH, make_celery
from common.duplicates import DuplicateBoard
from common.jobs import Client
from common.journal import JobJournal
from common.messages import SearchQuery
from common.models import ModelSpec
from common.progress import JobBoard
from common.ranking import ExactRanker
from common.redis_client import NAMESPACE, key
from common.settings import LibraryRoot, Settings
from common.up.sample import FAMILIES, sample_pictures
from tests.unit.web.building import report_worker
from workers.duplicates import run_duplicate_job
from workers.runtime import Runtime

TOKEN = "s3cret"
ROOT = "Pictures"
FOLDERS = {
    "cities": "Places/Cities",
    "hills": "Places/Hills",
    "clouds": "Sky/Clouds",
    "gradients": "Sky/Evenings",
    "checkerboards": "Patterns/Squares",
    "discs": "Patterns/Discs",
    "dots": "Patterns/Dots",
    "noise": "Patterns/Sand",
    "rings": "Patterns/Rings",
    "stripes": "Patterns/Stripes",
}
# Photos are wide, square, upright.
_SHAPES = ((320, 240), (320, 240), (240, 240), (180, 240), (320, 180))
_SCALE = 2
_QUALITY = 86


# --- pictures ------------------------------------------------------------------------------------------------


def paint_library(folder: Path, each: int) -> list[str]:
    """Makes so many pictures of each family of the sample library, and some copies.

    Returns:
        Their paths in the folder.
    """
    names = []
    families = list(FAMILIES)
    for number, picture in enumerate(sample_pictures(each * len(families))):
        place, family = divmod(number, len(families))
        name = f"{FOLDERS[families[family]]}/{families[family]}-{place + 1:02}.jpg"
        width, height = _SHAPES[(place + family) % len(_SHAPES)]
        shaped = picture.crop((0, 0, width, height)).resize((width * _SCALE, height * _SCALE), Image.Resampling.BICUBIC)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shaped.save(folder / name, quality=_QUALITY)
        names.append(name)
    return names + _copy_some(folder)


def _copy_some(folder: Path) -> list[str]:
    """The same file again, the same picture smaller, and once more as another format."""
    names = []
    for family in ("cities", "hills", "rings"):
        original = folder / FOLDERS[family] / f"{family}-01.jpg"
        phone = folder / "From the phone"
        phone.mkdir(exist_ok=True)
        shutil.copy(original, phone / f"{family}-01 (1).jpg")
        with Image.open(original) as image:
            image.resize((image.width // 2, image.height // 2)).save(phone / f"{family}-small.jpg", quality=_QUALITY)
            image.save(phone / f"{family}.png")
        names += [f"{phone.name}/{family}{end}" for end in ("-01 (1).jpg", "-small.jpg", ".png")]
    return names


class LookExtractor:
    """A model without TensorFlow: pictures with the same colours and edges in the same places are similar."""

    precision = "float32"
    images_per_second = 240.0
    full_batch = 16

    def __init__(self, *, trained: bool) -> None:
        self.spec = ModelSpec(
            architecture="look",
            layer="edges",
            weights_sha256="1" * 64,
            preprocessing="none/1",
            dimension=8 * 8 * 3 + 2 * 16 * 16,
            input_size=(64, 64),
            trained=trained,
        )

    def extract(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `workers.extractor.FeatureExtractor.extract`."""
        values = pixels.astype(np.float32) / 255
        grey = np.pad(values.mean(axis=3), ((0, 0), (0, 1), (0, 1)), mode="edge")
        across, down = np.abs(np.diff(grey[:, :-1], axis=2)), np.abs(np.diff(grey[:, :, :-1], axis=1))
        parts = [_pooled(values, 8) - 0.5, _pooled(np.stack([across, down], axis=3), 16)]
        return _normalised(np.concatenate([_normalised(part.reshape(len(pixels), -1)) for part in parts], axis=1))

    def estimated_seconds(self, number: int) -> float:
        """See `workers.extractor.FeatureExtractor.estimated_seconds`."""
        return number / self.images_per_second

    def warm_up_next(self) -> bool:
        """See `workers.extractor.FeatureExtractor.warm_up_next`."""
        return False


def _pooled(values: npt.NDArray[np.float32], cells: int) -> npt.NDArray[np.float32]:
    """Means of so many cells by cells of (n, h, w, c)."""
    count, height, width, channels = values.shape
    return values.reshape(count, cells, height // cells, cells, width // cells, channels).mean(axis=(2, 4))


def _normalised(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)).astype(np.float32)


# --- who plays the workers -----------------------------------------------------------------------------------


class PlayedRuntime(Runtime):
    """What a worker process holds, with the model above."""

    def __init__(self, settings: Settings, *, trained: bool) -> None:
        super().__init__(settings, make_celery(settings), [QUERY, BULK])
        self.extractor, self.threads = LookExtractor(trained=trained), 1

    def _ranker(self) -> ExactRanker:
        """One without an index, whose keeper is a thread that never ends."""
        return ExactRanker(self.model_store)


class Player:
    """Does what lies in the queues of searches and duplicates, as long as it is `on`."""

    def __init__(self, runtime: Runtime) -> None:
        self.on = True
        self._runtime = runtime
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            while self.on and (message := self._next()):
                self._do(message["headers"]["task"], json.loads(base64.b64decode(message["body"]))[0])

    def _next(self) -> dict[str, Any] | None:
        for queue in (QUERY, MAINTENANCE):
            if message := self._runtime.redis.rpop(queue):
                return dict(json.loads(message))
        return None

    def _do(self, task: str, arguments: list[str]) -> None:
        if task == FIND_DUPLICATES:
            run_duplicate_job(self._runtime, *arguments)
        elif task == SEARCH and (taken := self._runtime.searches.take(*arguments)):
            result, feature = self._runtime.engine.answer(taken)
            self._runtime.searches.finish(taken.record, result, feature)
            self._runtime.previews.submit(result.id, taken.uploads or ())


# --- the stage -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A situation of a whole installation.

    Attributes:
        pictures: Whether there are indexed pictures.
        trained: Whether the model's weights are.
        workers: The queues that have a worker, at first.
        reachable: Whether there is a Redis.
        settings: Settings of its own.
    """

    pictures: bool = True
    trained: bool = True
    workers: tuple[str, ...] = QUEUES
    reachable: bool = True
    settings: Mapping[str, object] | None = None


KINDS = {
    "full": Kind(),
    "empty": Kind(pictures=False, workers=()),
    # Its weights are untrained, it has a token, and it fetches pictures by their addresses.
    "guarded": Kind(trained=False, settings={"api_token": SecretStr(TOKEN), "allow_url_queries": True}),
    # Nobody sees anything without signing in.
    "private": Kind(settings={"api_token": SecretStr(TOKEN), "require_auth": "read"}),
    "broken": Kind(pictures=False, workers=(), reachable=False),
}


class Stage:
    """A running installation of one kind, and what scenes do to it behind the pages' back.

    Attributes:
        address: The address of its server.
        settings: Its settings.
        pictures: The indexed pictures, by their paths in the library.
        client: A client of it.
        jobs: The index jobs, as workers see them.
        duplicates: The searches for duplicates, as workers see them.
        player: Plays the workers; None where there are no pictures.
    """

    def __init__(self, kind: Kind, address: str, settings: Settings, runtime: Runtime, pictures: list[str]) -> None:
        self.kind = kind
        self.address = address
        self.settings = settings
        self.runtime = runtime
        self.redis: redis.Redis = runtime.redis
        self.client = Client(settings)
        self.jobs = JobBoard(self.redis)
        self.duplicates = DuplicateBoard(self.redis, settings.data_dir)
        self.pictures = pictures
        self.player = Player(runtime) if pictures else None

    @property
    def library(self) -> Path:
        """The folder of the pictures."""
        return self.settings.library_roots[0].path

    def reset(self) -> None:
        """Makes everything as it was at first, for the next scene."""
        if not self.kind.reachable:
            return
        if self.player is not None:
            self.player.on = True
        shutil.rmtree(self.settings.data_dir / "jobs", ignore_errors=True)
        kept = (key("search", ""), key("upload", ""), key("query-pictures"))
        names = [name for name in self.redis.scan_iter(match=f"{NAMESPACE}:*") if not name.decode().startswith(kept)]
        self.redis.delete(*QUEUES, *names)
        for queue in self.kind.workers:
            facts = {} if queue == MAINTENANCE else {"precision": "int8", "threads": 2, "images_per_second": 44.0}
            self.report(queue, **facts)

    def report(self, queue: str, state: str = "idle", **facts: object) -> None:
        """Makes a worker known, or another state of it."""
        report_worker(self.settings, queue, state, **{"precision": None, **facts})

    def dismiss(self, *queues: str) -> None:
        """Takes workers away; nothing is done any more."""
        if self.player is not None:
            self.player.on = False
        for queue in queues:
            self.redis.delete(key("worker", f"{queue}@desk:4711"))

    def searched(self, *uploads: bytes, **query: object) -> str:
        """The id of a search that has been answered, with the previews of its pictures."""
        search_id = self.submitted(*uploads, **query)
        result = self.client.search(search_id, wait_seconds=30)
        if result.state == "done":
            numbers = set(range(len(uploads)))
            wait_until(lambda: self.runtime.searches.pictures.numbers(search_id) >= numbers, "the previews are kept")
        return search_id

    def submitted(self, *uploads: bytes, **query: object) -> str:
        """The id of a search that waits."""
        return self.client.submit_search(SearchQuery(**{"k": 40, **query}), uploads).id  # type: ignore[arg-type]

    def journal(self) -> JobJournal:
        """The notes of the index jobs."""
        return JobJournal(self.settings.data_dir)

    def close(self) -> None:
        """Ends what plays the workers."""
        if self.player is not None:
            self.player.stop()


@contextmanager
def open_stage(name: str, folder: Path, each: int) -> Iterator[Stage]:
    """An installation of the kind of this name.

    Args:
        name: A key of `KINDS`.
        folder: An empty folder for all its files.
        each: How many pictures of each family there are.
    """
    kind = KINDS[name]
    with ExitStack() as stack:
        url = stack.enter_context(running_redis()) if kind.reachable else "unix:///run/no-redis.sock"
        library = folder / ROOT
        library.mkdir()
        settings = Settings(
            redis_url=url,
            data_dir=folder / "data",
            library_roots=(LibraryRoot(name=ROOT, path=library),),
            weights="untrained",
            max_upload_bytes=2 << 20,
            threads=1,
            **(kind.settings or {}),  # type: ignore[arg-type]
        )
        runtime = PlayedRuntime(settings, trained=kind.trained)
        pictures = paint_library(library, each) if kind.pictures else []
        if pictures:
            outcome = runtime.indexer.run("first", [f"{ROOT}/{name}" for name in pictures], 1, lambda _: None)
            assert outcome.done == len(pictures), outcome.failed
        address = stack.enter_context(running_web(settings))
        stage = Stage(kind, address, settings, runtime, pictures)
        stack.callback(stage.close)
        stage.reset()
        if pictures:
            # Scores have percentiles from the first search on.
            runtime.engine.calibrate()
            runtime.engine.calibrator.settle()
        yield stage
