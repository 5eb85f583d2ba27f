"""The web page that this product replaces, as a peer: one process that does everything inside the request.

It loads the model and every feature at its start. A picture that is posted is stored, embedded with `model.predict`,
and compared with each feature; the page shows the 30 nearest.

    python -m benchmarks.old_page --features FEATURES.npy --paths PATHS.txt --uploads FOLDER --port 5000
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from flask import Flask, render_template_string, request
from PIL import Image

from benchmarks.old_algorithm import OldAlgorithm, old_search

_PAGE = """<!doctype html>
<title>Image search</title>
<form method="post" enctype="multipart/form-data"><input type="file" name="query_img"><input type="submit"></form>
<img src="{{ query }}">
{% for distance, path in scores %}<figure><img src="{{ path }}"><figcaption>{{ distance }}</figcaption></figure>
{% endfor %}"""


def create_app(old: OldAlgorithm, features: list[np.ndarray], paths: list[str], uploads: Path) -> Flask:
    """The page."""
    app = Flask(__name__)

    @app.route("/", methods=["GET", "POST"])
    def index() -> str:
        if request.method == "GET":
            return render_template_string(_PAGE, query="", scores=[])
        file = request.files["query_img"]
        image = Image.open(file.stream)
        stored = uploads / f"{time.time_ns()}_{Path(file.filename or 'upload').name}"
        image.save(stored)
        nearest = old_search(old.extract(image), features, 30)
        scores = [(distance, paths[position]) for distance, position in nearest]
        return render_template_string(_PAGE, query=str(stored), scores=scores)

    return app


def main() -> None:
    """Loads everything, then serves as `python server.py` did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--paths", type=Path, required=True, help="the path of each feature, one a line")
    parser.add_argument("--uploads", type=Path, required=True, help="an existing folder for the posted pictures")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    old = OldAlgorithm(options.weights)
    features = list(np.load(options.features))
    paths = options.paths.read_text().splitlines()
    create_app(old, features, paths, options.uploads).run(host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
