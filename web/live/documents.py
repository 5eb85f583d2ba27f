"""The documents that viewers follow, each read once for all of them."""

from __future__ import annotations

import redis
from pydantic import TypeAdapter
from werkzeug.http import HTTP_STATUS_CODES

from common.errors import ImageSearchError
from common.messages import IndexJob
from web.live.events import Event
from web.problems import Problem, describe
from web.services import Services

_JOBS = TypeAdapter(list[IndexJob])

# Every worker reports every two seconds: that alone is no news.
_NO_NEWS = {"workers": {"__all__": {"last_seen"}}}


def read_events(services: Services) -> list[Event]:
    """The state of the system and the latest jobs as they are now, or the problem that hides them."""
    try:
        status, jobs = services.status(), services.client.jobs()
    except ImageSearchError as error:
        return [_event(describe(error, 503))]
    except (redis.RedisError, OSError) as error:
        return [_event(Problem(title=HTTP_STATUS_CODES[503], status=503, detail=str(error)))]
    return [
        Event.of("status", status.model_dump_json(), status.model_dump_json(exclude=_NO_NEWS)),
        Event.of("jobs", _JOBS.dump_json(jobs).decode()),
    ]


def _event(problem: Problem) -> Event:
    return Event.of("problem", problem.model_dump_json(exclude=set() if problem.errors else {"errors"}))
