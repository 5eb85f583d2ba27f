"""The group of commands, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from common import __version__
from common.cli.collection import compact, export, status, verify, weights
from common.cli.commands import SETTINGS, Group
from common.cli.completion import completion
from common.cli.duplicates import duplicates
from common.cli.indexing import index, retry
from common.cli.jobs import cancel, jobs, pause, resume
from common.cli.output import complain, print_json
from common.cli.query import query
from common.cli.services import up, web, worker
from common.cli.watch import watch
from common.errors import (
    ConfigurationError,
    FolderNotFound,
    ImageSearchError,
    OutsideLibrary,
    ServiceUnavailable,
)

DONE, FAILED, WRONG_USE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


_SECTIONS = {
    "Run": (up, worker, web),
    "Search": (query, duplicates),
    "Index": (index, watch, jobs, retry, pause, resume, cancel),
    "The collection": (status, verify, export, compact, weights),
    "The shell": (completion,),
}


@click.group(cls=Group, sections=_SECTIONS, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="imagesearch", message="%(prog)s %(version)s")
def cli() -> None:
    """Image search: give it a picture, it shows the most similar ones of your own collection.

    Settings are IMAGESEARCH_* environment variables. While `imagesearch up` runs on the data folder, the other
    commands find it there.

    `imagesearch COMMAND --help` says more, with examples.

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 a service is not reachable.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs a command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code. An error was reported by then: one line on standard error and, where `--json` was asked for,
        a JSON document `{"error": …}` on standard output.
    """
    as_json = "--json" in arguments
    try:
        code = cli.main(list(arguments), prog_name="imagesearch", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except click.ClickException as error:
        if as_json:
            print_json({"error": error.format_message()})
        _show_usage(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _report("Interrupted.", INTERRUPTED, as_json=as_json)
    except BrokenPipeError:
        # The reader of a pipe has seen enough. What is still buffered goes nowhere, or Python complains at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except ImageSearchError as error:
        return _report(str(error), exit_code(error), as_json=as_json)
    except OSError as error:
        return _report(str(error), FAILED, as_json=as_json)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        text = f"Internal error, {type(error).__name__}: {error}. PYTHONDEVMODE=1 shows where."
        return _report(text, FAILED, as_json=as_json)


def exit_code(error: ImageSearchError) -> int:
    """The exit code for an error of the product."""
    if isinstance(error, ServiceUnavailable):
        return UNREACHABLE
    if isinstance(error, ConfigurationError | OutsideLibrary | FolderNotFound):
        return WRONG_USE
    return FAILED


def _show_usage(error: click.ClickException) -> None:
    """As click shows it, with our colours."""
    if error.format_message().startswith("Usage:"):  # nothing was asked for: the message is the help itself
        error.show(sys.stderr)
        return
    if isinstance(error, click.UsageError) and error.ctx is not None:
        print(error.ctx.get_usage(), file=sys.stderr)
        print(f"`{error.ctx.command_path} --help` says more, with examples.\n", file=sys.stderr)
    complain(error.format_message())


def _report(text: str, code: int, *, as_json: bool) -> int:
    if as_json:
        print_json({"error": text})
    if code == INTERRUPTED:
        print(text, file=sys.stderr)
    else:
        complain(text)
    return code
