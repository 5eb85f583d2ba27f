"""What Schemathesis cannot make up: real pictures. Loaded by it, see `conformance.toml`."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

from tests.unit.web.building import picture_bytes

schemathesis.openapi.media_type(
    "image/*", st.sampled_from([picture_bytes("teal"), picture_bytes("red", (20, 30), "PNG")])
)
