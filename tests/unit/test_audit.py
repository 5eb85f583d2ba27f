"""What `make audit` makes of the answers of pip-audit."""

from __future__ import annotations

import json

from tests.audit import Outcome, outcome_of, verdict

SOUND = {"name": "click", "version": "8.5.1", "vulns": []}
SKIPPED = {"name": "vine", "skip_reason": "Dependency not found on PyPI and could not be audited: vine (5.1.0)"}
KNOWN = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "PYSEC-2023-227", "fix_versions": ["10.0.0"], "aliases": [], "description": "…"}],
}


def answer(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_known_vulnerability_fails_and_is_named() -> None:
    code, text = verdict(outcome_of(answer(SOUND, KNOWN)))
    assert code == 1
    assert text.splitlines() == [
        "audit: 2 packages looked up, known vulnerabilities: 1",
        "  pillow 9.0.0: PYSEC-2023-227, mended in 10.0.0",
    ]


def test_packages_that_were_not_looked_up_are_named() -> None:
    code, text = verdict(outcome_of(answer(SOUND, SKIPPED)))
    assert (code, text.splitlines()[1]) == (0, "  not looked up: vine")


def test_an_audit_of_nothing_is_no_good_audit() -> None:
    for printed in ("", answer(SKIPPED, SKIPPED)):
        code, text = verdict(outcome_of(printed))
        assert (code, "NOT RUN" in text) == (0, True)


def test_a_sound_lock_passes() -> None:
    assert outcome_of(answer(SOUND)) == Outcome(looked_up=1)
    assert verdict(Outcome(looked_up=1))[0] == 0
