"""Commands that run something: `up`, `worker`, `web`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from common.cli.commands import command

_QUEUES = ("query", "bulk", "maintenance")


@command(
    ("Everything on this machine, for a folder of pictures", "imagesearch up --images ~/Pictures"),
    ("The same again, with the folders of earlier starts", "imagesearch up"),
    ("For other machines, too", "imagesearch up --images ~/Pictures --host 0.0.0.0 --port 9000"),
)
@click.option("--images", type=click.Path(path_type=Path), help="Folder of pictures to serve and index.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 chooses one.")
def up(images: Path | None, host: str, port: int) -> None:
    """Start everything on this machine, and stay until Ctrl-C.

    It starts Redis, the workers and the web tier, and indexes. Without --images the folders of earlier starts are
    looked through again; where there are none, a sample library is made.
    """
    from common.up.run import run_up

    run_up(images, host, port)


@command(
    ("Answer searches", "imagesearch worker --queues query"),
    (
        "Index and look after the store, in two processes",
        "imagesearch worker --queues bulk,maintenance --concurrency 2",
    ),
)
@click.option("--queues", required=True, metavar="Q[,Q2]", help="query, bulk or maintenance; the last two together.")
@click.option("--concurrency", type=click.IntRange(1), help="Threads of a query worker [32], else processes [1].")
@click.option("--wait-for-weights", is_flag=True, help="Wait for the model's weights instead of ending without them.")
def worker(queues: str, concurrency: int | None, wait_for_weights: bool) -> None:
    """Run a worker: for searches, for indexing or for housekeeping.

    The queues are query (searches), bulk (indexing) and maintenance (merging segments, finding duplicates). Searches
    have workers of their own, so that they never wait behind indexing.
    """
    names = _parse_queues(queues)
    environment = _environment()
    environment["IMAGESEARCH_WORKER_QUEUES"] = ",".join(names)
    if wait_for_weights:
        environment["IMAGESEARCH_WORKER_WAIT_FOR_WEIGHTS"] = "1"
    if "query" not in names:  # which has one process, however many threads
        environment["IMAGESEARCH_WORKER_PROCESSES"] = str(concurrency or 1)
    _become(worker_command(names, concurrency), environment)


@command(("On every address of this host", "imagesearch web --host 0.0.0.0 --port 8000"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
def web(host: str, port: int) -> None:
    """Run the web tier: the page and the API."""
    _become([sys.executable, "-m", "web", "--host", host, "--port", str(port)], _environment())


def worker_command(queues: list[str], concurrency: int | None) -> list[str]:
    """The Celery command line of a worker."""
    # The pid tells apart the workers of one host: Celery needs different names.
    name = f"{'+'.join(queues)}-{os.getpid()}@%h"
    # A query worker embeds in one thread of its own, and the others wait for it; one process shares the model.
    pool, default = ("threads", 32) if "query" in queues else ("prefork", 1)
    # Quiet: without a banner of thirty lines, which are no lines of a log.
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "--quiet", "worker", "--queues", ",".join(queues)]
    command += ["--pool", pool, "--concurrency", str(concurrency or default), "--hostname", name]
    return [*command, "--without-gossip", "--without-mingle", "--loglevel", "INFO"]


def _parse_queues(text: str) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in _QUEUES]
    if unknown or not names:
        raise click.BadParameter(
            f"{', '.join(unknown) or 'nothing'} is not among {', '.join(_QUEUES)}.", param_hint="--queues"
        )
    if "query" in names and len(names) > 1:
        raise click.BadParameter(
            "query goes with no other queue, because searches would wait behind index jobs. Run two workers.",
            param_hint="--queues",
        )
    return names


def _environment() -> dict[str, str]:
    from common.up.run_record import child_environment, load_settings

    return child_environment(load_settings())


def _become(command: list[str], environment: dict[str, str]) -> NoReturn:
    """Replaces this process, so that signals reach the program itself."""
    sys.stdout.flush()
    os.execve(command[0], command, environment)
