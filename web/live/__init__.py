"""Live news for everybody who watches: server-sent events, made once for all viewers of a web process.

No request thread is kept for a viewer: `handover` takes the connection out of the server's hands as soon as the answer
has begun, and `hub` has a single thread for all of them.
"""

from __future__ import annotations

import resource
from functools import partial
from typing import cast

from apiflask import APIFlask
from flask import Flask

from web.live.documents import read_events
from web.live.hub import Hub
from web.services import EXTENSION as SERVICES

EXTENSION = "imagesearch.live"

# So many viewers one web process holds at most; beyond it they are asked to come back.
MAX_VIEWERS = 2000


def register(app: APIFlask) -> None:
    """Makes the hub of an application. Nothing runs before the first viewer comes."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each viewer is an open file. At least half of those that the process may have stay free for everything else.
    limit = MAX_VIEWERS if soft_limit == resource.RLIM_INFINITY else min(MAX_VIEWERS, soft_limit // 2)
    app.extensions[EXTENSION] = Hub(partial(read_events, app.extensions[SERVICES]), limit=limit)


def hub_of(app: Flask) -> Hub:
    """The hub of an application."""
    return cast(Hub, app.extensions[EXTENSION])


__all__ = ["MAX_VIEWERS", "Hub", "hub_of", "register"]
