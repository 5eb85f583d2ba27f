"""Commands about what is stored: `status`, `export`, `verify`, `compact`, `weights`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.cli.output import json_option, print_json

if TYPE_CHECKING:
    from common.messages import Status
    from common.settings import Settings
    from common.store import FeatureStore


@click.command()
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


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export(file: Path) -> None:
    """Write all features and paths to FILE.h5, for a notebook."""
    from common import store
    from common.up.run_record import load_settings

    count = store.export(_store(load_settings()), file)
    print(f"{count:,} images written to {file}: `features` and `paths`, one row for each.")


@click.command()
@json_option
def verify(as_json: bool) -> int:
    """Check every segment of the store against its checksums."""
    from common.terminal import note, printable
    from common.up.run_record import load_settings

    store = _store(load_settings())
    checked = dict(store.verify())
    problems = {name: found for name, found in checked.items() if found}
    for name, found in problems.items():
        note(printable(f"{name}: {'; '.join(found)}"))
    if as_json:
        print_json({"ok": not problems, "store": str(store.path), "segments": len(checked), "problems": problems})
    elif not problems:
        print(f"{len(checked):,} segments with {len(store):,} images in {store.path}: all are sound.")
    return 1 if problems else 0


@click.command()
def compact() -> None:
    """Ask the maintenance worker to merge small segments into large ones."""
    from common.errors import ServiceUnavailable
    from common.jobs import Client
    from common.up.run_record import load_settings

    client = Client(load_settings())
    with client.redis:
        if not any("maintenance" in worker.queues for worker in client.workers()):
            raise ServiceUnavailable(
                "No maintenance worker is running. Start one with: imagesearch worker --queues maintenance"
            )
        client.request_compaction()
    print("The maintenance worker compacts the store now; searches and index jobs go on meanwhile.")


@click.command()
@json_option
def weights(as_json: bool) -> int:
    """Fetch and check the model's weights ahead of time."""
    from common.terminal import DownloadProgress
    from common.up.run_record import load_settings
    from common.weights import resolve_weights

    settings = load_settings()
    found = resolve_weights(settings, DownloadProgress(sys.stderr))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print(f"{found.model}: {found.path or 'no file'} ({found.detail})")
    # `auto` goes on without them, but whoever calls this wants them.
    return 0 if found.trained or settings.weights == "untrained" else 1


def _store(settings: Settings) -> FeatureStore:
    from common.store import open_store

    store = open_store(settings)
    store.refresh()
    return store


def _print_status(state: Status) -> None:
    from common.terminal import table

    trained = {True: "", False: " (UNTRAINED: matches colour and texture only)", None: ""}[state.trained]
    print(f"images     {state.images:,} in {state.segments:,} segments")
    print(f"model      {state.model or 'not loaded yet'}{trained}")
    print(f"precision  {state.precision or 'unknown'}")
    print(f"folders    {', '.join(state.folders) or 'none'}")
    if state.recall_at_10 is not None:
        print(f"recall     {state.recall_at_10:.1%} of the ten best, in samples of live searches")
    queues = state.queues
    print(f"waiting    {queues.query} searches, {queues.bulk} batches, {queues.maintenance} maintenance tasks")
    rows = [
        (
            worker.name,
            worker.state,
            f"{worker.images_per_second or 0:.1f}",
            str(worker.threads or ""),
            worker.detail or "",
        )
        for worker in state.workers
    ]
    print(table(("worker", "state", "images/s", "threads", "detail"), rows) if rows else "workers    none")
