"""The command `watch`: keeps a folder indexed while it changes."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.cli.commands import command
from common.cli.completion import complete_folder
from common.cli.indexing import make_client, public_folder
from common.errors import LibraryError

if TYPE_CHECKING:
    from common.following import JobFollower
    from common.jobs import Client
    from common.messages import IndexJob
    from common.up.signals import StopSignals
    from common.watching import Request

# Milliseconds: how long events are collected, and how often the watcher gets its turn while nothing happens.
_COLLECT_MS = 200
_TURN_MS = 250


@command(
    ("Keep a folder indexed while it changes", "imagesearch watch ~/Pictures"),
    ("On a network file system", "WATCHFILES_FORCE_POLLING=1 imagesearch watch /mnt/photos"),
)
@click.argument("folder", metavar="DIR", shell_complete=complete_folder)
def watch(folder: str) -> None:
    """Keep DIR indexed while its pictures come, change and go. Stays until Ctrl-C.

    It begins with an index job of the whole folder, and prints a line for each job; on a terminal it shows how far
    they are. It needs a file system that reports changes; on a network file system set WATCHFILES_FORCE_POLLING=1.
    """
    import watchfiles

    from common.following import JobFollower
    from common.terminal import is_terminal, note, printable
    from common.up.signals import StopSignals
    from common.watching import FolderWatcher

    client = make_client()
    location = client.library.locate(public_folder(client.library, folder))
    path = client.library.resolve_folder(location)

    def say(line: str) -> None:
        print(printable(line), flush=True)

    with client.redis, StopSignals() as signals, closing(JobFollower(client, sys.stderr)) as follower:
        watcher: FolderWatcher | None = None
        # A log has the lines of `say`: how far a job is interests only who looks on.
        shown = follower if is_terminal(sys.stderr) else None
        try:
            # No filter of watchfiles: it gives no turn while all that happens is filtered out.
            for changes in watchfiles.watch(
                path,
                watch_filter=None,
                debounce=_COLLECT_MS,
                rust_timeout=_TURN_MS,
                yield_on_timeout=True,
                stop_event=_Stop(signals),
                ignore_permission_denied=True,
            ):
                if watcher is None:  # the first turn: from now on no change is missed
                    note(f"Watching {printable(str(path))}. Ctrl-C ends it.")
                    watcher = FolderWatcher(path, location.public, submit=lambda r: _submit(client, r, shown), say=say)
                watcher.take(changes)
                watcher.tick()
                follower.show()
        except (OSError, RuntimeError) as error:
            if "watch limit" in str(error):
                raise WatchLimitReached(path) from error
            raise
        follower.close()
        _say_what_goes_on(follower.unfinished)


class WatchLimitReached(LibraryError):
    """The system does not let this user watch so many folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            f"{folder} has more folders than the system lets this user watch. Raise the limit: "
            "sysctl fs.inotify.max_user_watches=1048576"
        )


class _Stop:
    """The wish to stop, as watchfiles asks for it."""

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals

    def is_set(self) -> bool:
        return self._signals.requested()


def _submit(client: Client, request: Request, follower: JobFollower | None) -> IndexJob:
    if request.paths is None:
        job = client.submit_index_job(request.folder)
    else:
        job = client.submit_paths_job(request.folder, request.paths)
    if follower is not None:
        follower.add(job)
    return job


def _say_what_goes_on(job_ids: list[str]) -> None:
    from common.cli.indexing import how_to_go_on
    from common.terminal import note

    if len(job_ids) == 1:
        note(how_to_go_on(job_ids[0]))
    elif job_ids:
        note(f"{len(job_ids)} jobs go on without this command. How far they are: imagesearch jobs")
