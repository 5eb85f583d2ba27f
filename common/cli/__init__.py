"""The console script `imagesearch`: a client of the jobs and the store, not of the workers.

Commands import what they work with when they run, so that `--help` answers at once.
"""

from common.cli.app import main

__all__ = ["main"]
