"""Completion in the shell: the command `completion`, and what the arguments of others complete to.

Whoever presses Tab waits for the answer: nothing heavy is imported here, and whatever goes wrong completes to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class
from click.types import StringParamType

from common.cli.commands import command

if TYPE_CHECKING:
    from common.messages import IndexJob
    from common.settings import Settings

PROGRAM = "imagesearch"
_VARIABLE = "_IMAGESEARCH_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")
_MOST_JOBS = 20

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@command(
    ("For bash, in ~/.bashrc", 'eval "$(imagesearch completion bash)"'),
    ("For zsh, in ~/.zshrc", 'eval "$(imagesearch completion zsh)"'),
    ("For fish, in ~/.config/fish/config.fish", "imagesearch completion fish | source"),
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, job ids and folders.

    It is for a shell: bash, zsh or fish, which must find `imagesearch` on its PATH.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows all of `_SHELLS`
    # Not the method of the class: for bash that runs the bash of this host, only to look at its version.
    click.echo(ShellComplete.source(kind(ctx.find_root().command, {}, PROGRAM, _VARIABLE)))


def complete_job(fits: Callable[[IndexJob], bool] = lambda job: True) -> Completer:
    """Completes the ids of the latest index jobs.

    Args:
        fits: Which of them.
    """

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with suppress(Exception):
            return [
                CompletionItem(job.id, help=f"{job.state} {job.folder}")
                for job in _latest_jobs()
                if job.id.startswith(incomplete) and fits(job)
            ]
        return []

    return complete


def complete_folder(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes a folder: of the library by its public name, else of this machine."""
    with suppress(Exception):
        found = [CompletionItem(folder) for folder in _library_folders(_settings(), incomplete)]
        if found:
            return found
    return [CompletionItem(incomplete, type="dir")]


class PictureType(StringParamType):
    """A picture to search for, as text: a file, or what else `query` takes. Completes to files."""

    name = "picture"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        """Files of this machine."""
        return [CompletionItem(incomplete, type="file")]


def _settings() -> Settings:
    from common.up.run_record import load_settings

    return load_settings()


def _latest_jobs() -> list[IndexJob]:
    # Not `Client`: it would import Celery.
    from common.progress import JobBoard
    from common.redis_client import connect

    with connect(_settings()) as redis:
        return JobBoard(redis).latest(_MOST_JOBS)


def _library_folders(settings: Settings, incomplete: str) -> Iterator[str]:
    """The roots of the library, or the folders at the level that is being typed."""
    parent, slash, _ = incomplete.rpartition("/")
    if not slash:
        yield from (root.name for root in settings.library_roots if root.name.startswith(incomplete))
        return
    name, _, below = parent.partition("/")
    roots = [root.path for root in settings.library_roots if root.name == name]
    if not roots or ".." in below.split("/"):
        return
    with os.scandir(roots[0] / below) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    yield from (f"{parent}/{one}" for one in names if f"{parent}/{one}".startswith(incomplete))
