"""An id for each request, one log line for each answer, and the counting of both.

The id is the client's `X-Request-ID`, or a new one; it goes back with the answer and on with every task, so that one
search can be followed through the logs of all processes. A line never has the query of the address, nor any header.
"""

from __future__ import annotations

import logging
import time

from apiflask import APIFlask
from flask import Response, current_app, g, request

from common import log_context
from web.metrics import meter_of

logger = logging.getLogger(__name__)

HEADER = "X-Request-ID"
# Asked for every few seconds by machines, or a dozen for each page: of interest only when they fail.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/static/<path:filename>"})


def register(app: APIFlask) -> None:
    """Watches all requests. Registered before others, so that it begins before them and sees the finished answer."""
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_forget)


def _begin() -> None:
    g.began = time.perf_counter()
    request_id = log_context.accepted_id(request.headers.get(HEADER)) or log_context.new_request_id()
    ids = {name: value for name, value in (request.view_args or {}).items() if name in log_context.FIELDS}
    log_context.begin(**{**ids, "request_id": request_id})


def _end(response: Response) -> Response:
    response.headers[HEADER] = log_context.current().get("request_id", "")
    seconds = time.perf_counter() - g.began
    route = request.url_rule.rule if request.url_rule is not None else None
    meter_of(current_app).count(route, request.method, response.status_code, seconds)
    is_quiet = route in _QUIET and response.status_code < 400
    logger.log(
        logging.DEBUG if is_quiet else logging.INFO,
        "%s %s %d in %.1f ms",
        request.method,
        request.path,
        response.status_code,
        seconds * 1000,
        extra={
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "ms": round(seconds * 1000, 1),
            "client": request.remote_addr,
        },
    )
    return response


def _forget(_: BaseException | None) -> None:
    log_context.end()
