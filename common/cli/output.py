"""What commands share: the `--json` option, and printing of JSON documents."""

from __future__ import annotations

import json
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def print_json(document: Any) -> None:
    """Prints a document. ASCII only: a path may hold bytes that no terminal can show."""
    print(json.dumps(document, indent=2))
