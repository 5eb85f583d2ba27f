"""What Schemathesis loads for `python -m tests.fuzz.requests`: the conformance hooks, and a note of each answer."""

from __future__ import annotations

import os
from pathlib import Path

import schemathesis

from tests.fuzz.world import SECRETS
from tests.unit.web.conformance_hooks import *  # noqa: F403

_NOTES = Path(os.environ["FUZZ_NOTES"])


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response) -> None:
    """Notes the status, the seconds, and whether a secret came out."""
    leaked = any(secret in response.content for secret in SECRETS)
    with _NOTES.open("a", encoding="utf-8") as notes:
        notes.write(f"{response.status_code} {response.elapsed} {int(leaked)} {case.method} {case.path}\n")
