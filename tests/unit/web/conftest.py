"""A client of the web tier, over a real Redis and a real store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.settings import Settings
from web import create_app


@pytest.fixture
def make_client(settings: Settings) -> Callable[..., FlaskClient]:
    """Makes a client of an application with some settings changed."""

    def make(**changes: Any) -> FlaskClient:
        app = create_app(settings.model_copy(update=changes))
        app.config["TESTING"] = True
        return app.test_client()

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    """A client of an application with the test's settings."""
    return make_client()


@pytest.fixture
def check_problem() -> Callable[[TestResponse, int], str]:
    """Checks that a response is a problem as RFC 9457 has it. Gives its detail."""

    def check(response: TestResponse, status: int) -> str:
        assert response.status_code == status, response.get_data(as_text=True)
        assert response.mimetype == "application/problem+json"
        body = response.get_json()
        assert body["status"] == status
        assert body["title"]
        assert body["type"] == "about:blank" or body["type"].startswith("urn:imagesearch:")
        assert body["detail"]
        return str(body["detail"])

    return check
