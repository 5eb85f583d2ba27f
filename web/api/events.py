"""What changes, told to whoever watches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apiflask import APIBlueprint, HTTPError
from flask import Response, current_app, request

from web.documented import responses
from web.live import Hub, hub_of
from web.live.events import MEDIA_TYPE, RETRY
from web.live.handover import is_chunked, take_connection

blueprint = APIBlueprint("events", __name__, tag="System")

_RETRY_SECONDS = "5"


@blueprint.get("/events")
@blueprint.doc(
    responses=responses(
        {
            200: {
                "description": "The events, for as long as the client stays.",
                "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
            },
            503: "Too many viewers are connected.",
        }
    )
)
def follow_events() -> Response:
    """Follow what happens

    Server-sent events, as `EventSource` in a browser reads them. `status` has the document of `GET /status` and `jobs`
    that of `GET /index-jobs`; both come at once, and again within about a second when they change. While they cannot
    be read, `problem` says why, as an error would. Every 15 seconds there is a comment.
    """
    hub = hub_of(current_app)
    if not hub.has_room:
        message = f"{len(hub)} viewers are connected already. Ask for the state every few seconds instead."
        raise HTTPError(503, message, headers={"Retry-After": _RETRY_SECONDS})
    # Proxies that know this header, such as nginx, then pass each event on at once.
    return Response(_stream(request.environ, hub), mimetype=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})


def _stream(environ: dict[str, Any], hub: Hub) -> Iterator[bytes]:
    # With its first bytes the answer has begun, and the connection can be taken over.
    yield RETRY
    connection = take_connection(environ)
    if connection is not None:
        hub.add(connection, chunked=is_chunked(environ))
    else:
        # No thread is kept for somebody to wait: the client comes back by itself.
        for event in hub.read():
            yield event.packet.plain
