"""Changes worker processes before they start; `benchmarks.injection` puts this folder on their PYTHONPATH."""

import os

if os.environ.get("INJECT"):
    from benchmarks.injection import apply

    apply(os.environ["INJECT"])
