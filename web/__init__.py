"""The web tier: pages, the REST API and its documentation. Never imports the workers or a model's code."""

from __future__ import annotations

from typing import Any, cast

from apiflask import APIFlask

from common import __version__
from common.settings import Settings

# Room beside the picture for the other fields and the boundaries of a multipart body.
FORM_OVERHEAD_BYTES = 64 * 1024


def create_app(settings: Settings | None = None) -> APIFlask:
    """Makes the web application.

    Args:
        settings: The product's settings; read from the environment by default.
    """
    # Imported here, so that `import web` alone costs nothing.
    from werkzeug.middleware.proxy_fix import ProxyFix

    from web import (
        access,
        api,
        bodies,
        collection_pages,
        compression,
        health,
        live,
        metrics,
        modules,
        overview,
        pages,
        problems,
        request_log,
        search_pages,
        security,
        sign_in,
        texts,
    )
    from web.openapi import complete_document
    from web.services import EXTENSION, Services

    settings = settings or Settings.load()
    app = APIFlask(
        __name__,
        title="Imagesearch",
        version=__version__,
        spec_path="/api/v1/openapi.json",
        docs_path=None,
        json_errors=False,
    )
    app.config.update(_config(settings))
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions[EXTENSION] = Services.make(settings)
    if settings.trusted_proxies:
        proxies = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=0)  # type: ignore[method-assign]
    app.spec_processor(cast(Any, complete_document))
    metrics.register(app)
    request_log.register(app)
    bodies.register(app)
    compression.register(app)
    live.register(app)
    problems.register(app)
    security.register(app)
    access.register(app)
    texts.register(app)
    overview.register(app)
    modules.register(app)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(sign_in.blueprint)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(search_pages.blueprint)
    app.register_blueprint(collection_pages.blueprint)
    return app


def _config(settings: Settings) -> dict[str, Any]:
    return {
        "MAX_CONTENT_LENGTH": settings.max_upload_bytes + FORM_OVERHEAD_BYTES,
        "MAX_FORM_MEMORY_SIZE": FORM_OVERHEAD_BYTES,
        # 16 pictures, and the fields beside them.
        "MAX_FORM_PARTS": 32,
        "DESCRIPTION": "Give it a picture, it shows the most similar ones of your own collection.",
        "SECURITY_SCHEMES": {"token": {"type": "http", "scheme": "bearer"}},
        # The document would carry the host name of whoever asked first.
        "AUTO_SERVERS": False,
        # Each view names its errors; their form is the same everywhere.
        "AUTO_404_RESPONSE": False,
        "AUTO_AUTH_ERROR_RESPONSE": False,
        "AUTO_VALIDATION_ERROR_RESPONSE": False,
    }
