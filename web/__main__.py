"""`python -m web`: serves the web tier."""

from __future__ import annotations

import sys

import click

from common.errors import ConfigurationError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
@click.option("--processes", default=1, show_default=True, help="Worker processes.")
def run(host: str, port: int, processes: int) -> None:
    """Serves the pages and the API."""
    from web.server import main

    try:
        main(host, port, processes=processes)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


if __name__ == "__main__":
    run(prog_name="python -m web")
