"""What Schemathesis cannot make up, and what it is to look at beside; it loads this, see `conformance.toml`."""

from __future__ import annotations

import os

import schemathesis
from hypothesis import strategies as st

from tests.unit.web.building import picture_bytes

TEAL, RED = picture_bytes("teal"), picture_bytes("red", (20, 30), "PNG")
JSON, FORM = "application/json", "multipart/form-data"

schemathesis.openapi.media_type("image/*", st.sampled_from([TEAL, RED]))


@schemathesis.hook.apply_to(operation_id="create_search")
def before_add_examples(context: schemathesis.HookContext, examples: list[schemathesis.Case]) -> None:
    """Searches that are sure to be taken."""
    image_id = os.environ["IMAGE"]
    bodies = [
        (JSON, {"image_id": image_id, "k": 3, "crop": [0, 0.25, 0.5, 1]}),
        (JSON, {"images": [{"image_id": image_id}, {"image_id": image_id, "weight": -0.5}], "folder": "photos"}),
        (JSON, {"cursor": os.environ["SEARCH"]}),
        (FORM, {"image": [TEAL], "k": "1000", "min_score": "-1", "crop": "0,0,1,0.5"}),
        (FORM, {"image": [TEAL, RED], "weights": "1,-0.5", "images": f'[{{"image_id": "{image_id}"}}]'}),
    ]
    assert context.operation is not None
    examples.extend(context.operation.Case(media_type=media_type, body=body) for media_type, body in bodies)


@schemathesis.check
class ReachesEverything:
    """Each call must come through at least once, else this test says nothing about it."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self.reached: set[str] = set()

    def after_response(
        self, ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
    ) -> None:
        """Notes an answer. A conflict counts: by its turn a job may have been cancelled already."""
        self.called.add(case.operation.label)
        if response.status_code < 300 or response.status_code == 409:
            self.reached.add(case.operation.label)

    def after_run(self, ctx: schemathesis.CheckContext) -> None:
        """Looks at all answers."""
        assert len(self.called) > 20
        missing = sorted(self.called - self.reached)
        assert not missing, f"never successful: {missing}"
