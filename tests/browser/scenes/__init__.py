"""Every page in every state: what people see in `make screenshots`, and what the tests of quality look at."""

from __future__ import annotations

from tests.browser.scenes import api, collection, search, signing_in
from tests.browser.scenes.scene import SCENES, Scene, settle

__all__ = ["SCENES", "Scene", "api", "collection", "search", "settle", "signing_in"]
