"""How views say in the OpenAPI document what they answer beside their output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def responses(answers: Mapping[int, str | dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Answers by status: a description, or a whole OpenAPI response. Errors without content are problems."""
    return {
        status: {"description": answer} if isinstance(answer, str) else answer for status, answer in answers.items()
    }
