"""Commands about what is stored: `status`, `export`, `verify`, `compact`, `weights`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.cli.commands import command
from common.cli.output import json_option, print_json, print_table, styled_state

if TYPE_CHECKING:
    from common.jobs import Client
    from common.messages import Status
    from common.settings import Settings
    from common.store import FeatureStore

# The width of the names that stand before what they name.
_NAMES = 11


@command(
    ("At a glance", "imagesearch status"),
    ("How many images, for a script", "imagesearch status --json | jq .images"),
)
@json_option
def status(as_json: bool) -> None:
    """Show what is indexed, with which model, and who works."""
    from common.errors import ModelNotReady
    from common.jobs import Client
    from common.status import system_status
    from common.up.run_record import load_settings

    settings = load_settings()
    client = Client(settings)
    with client.redis:
        client.workers()  # without Redis there is no need to open the store
        try:
            store = _store(settings)
        except ModelNotReady:
            store = None
        state = system_status(client, store)
    if as_json:
        print_json(state.model_dump(mode="json"))
    else:
        _print_status(state)


@command(("One row for each image", "imagesearch export features.h5"))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def export(file: Path, as_json: bool) -> None:
    """Write all features and paths to FILE.h5, for a notebook."""
    from common import store
    from common.terminal import printable
    from common.up.run_record import load_settings

    count = store.export(_store(load_settings()), file)
    if as_json:
        print_json({"file": str(file), "images": count})
    else:
        print(printable(f"{count:,} images written to {file}: `features` and `paths`, one row for each."))


@command(
    ("Look for damaged files", "imagesearch verify"),
    ("The names of damaged segments, for a script", "imagesearch verify --json | jq '.problems | keys'"),
)
@json_option
def verify(as_json: bool) -> int:
    """Check every segment of the store against its checksums."""
    from common.terminal import note, printable
    from common.up.run_record import load_settings

    store = _store(load_settings())
    checked = dict(_counted(store))
    problems = {name: found for name, found in checked.items() if found}
    for name, found in problems.items():
        note(printable(f"{name}: {'; '.join(found)}"), "red")
    if as_json:
        print_json({"ok": not problems, "store": str(store.path), "segments": len(checked), "problems": problems})
    elif not problems:
        print(f"{len(checked):,} segments with {len(store):,} images in {store.path}: all are sound.")
    return 1 if problems else 0


@command(("After many small index jobs", "imagesearch compact"))
@json_option
def compact(as_json: bool) -> None:
    """Ask the maintenance worker to merge small segments."""
    from common.cli.indexing import make_client

    client = make_client()
    with client.redis:
        need_maintenance(client)
        client.request_compaction()
    if as_json:
        print_json({"requested": True})
    else:
        print("The maintenance worker compacts the store now; searches and index jobs go on meanwhile.")


@command(
    ("Download them before the first start", "imagesearch weights"),
    ("Insist on those of ImageNet", "IMAGESEARCH_WEIGHTS=imagenet imagesearch weights"),
)
@json_option
def weights(as_json: bool) -> int:
    """Fetch and check the model's weights ahead of time."""
    from common.terminal import DownloadProgress
    from common.up.run_record import load_settings
    from common.weights import resolve_weights

    settings = load_settings()
    with closing(DownloadProgress(sys.stderr)) as progress:
        found = resolve_weights(settings, progress)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print(f"{found.model}: {found.path or 'no file'} ({found.detail})")
    # `auto` goes on without them, but whoever calls this wants them.
    return 0 if found.trained or settings.weights == "untrained" else 1


def need_maintenance(client: Client) -> None:
    """Says at once that nobody would do the work.

    Raises:
        ServiceUnavailable: No maintenance worker is running.
    """
    from common.errors import ServiceUnavailable

    if not any("maintenance" in worker.queues for worker in client.workers()):
        raise ServiceUnavailable(
            "No maintenance worker is running. Start one with: imagesearch worker --queues maintenance"
        )


def _store(settings: Settings) -> FeatureStore:
    from common.store import open_store

    store = open_store(settings)
    store.refresh()
    return store


def _counted(store: FeatureStore) -> Iterator[tuple[str, list[str]]]:
    """`store.verify()`; on a terminal with a bar, because it reads everything."""
    from common.terminal import Counter, is_terminal

    total = len(store.catalog.segments())
    with closing(Counter(sys.stderr)) as counter:
        for number, checked in enumerate(store.verify(), 1):
            if is_terminal(sys.stderr):
                counter.show(number, max(number, total), "checking segments")
            yield checked


def _print_status(state: Status) -> None:
    trained = "" if state.trained is not False else " (UNTRAINED: matches colour and texture only)"
    _say("images", f"{state.images:,} in {state.segments:,} segments")
    _say("model", f"{state.model or 'not loaded yet'}{trained}", "yellow" if trained else None)
    _say("precision", state.precision or "unknown")
    _say("folders", ", ".join(state.folders) or "none")
    if state.recall_at_10 is not None:
        _say("recall", f"{state.recall_at_10:.1%} of the ten best, in samples of live searches")
    for problem in state.problems:
        _say("problem", problem.detail, "red")
    queues = state.queues
    _say("waiting", f"{queues.query} searches, {queues.bulk} batches, {queues.maintenance} maintenance tasks")
    rows = [
        (
            worker.name,
            styled_state(worker.state),
            f"{worker.images_per_second or 0:.1f}",
            str(worker.threads or ""),
            worker.detail or "",
        )
        for worker in state.workers
    ]
    if rows:
        print_table(("worker", "state", "images/s", "threads", "detail"), rows)
    else:
        _say("workers", "none", "yellow")


def _say(name: str, text: str, style: str | None = None) -> None:
    from common.terminal import printable, tinted

    shown = printable(text)
    print(tinted(f"{name:<{_NAMES}}", "bold", sys.stdout) + (tinted(shown, style, sys.stdout) if style else shown))
