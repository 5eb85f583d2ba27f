"""Keeps the logs of parts small while the parts go on writing to them."""

from __future__ import annotations

import shutil
from pathlib import Path

# As in `docker-compose.yml`: three files of 10 MB for each part.
LIMIT_BYTES = 10_000_000
OLDER = 2


def rotate(log: Path, limit_bytes: int = LIMIT_BYTES, older: int = OLDER) -> bool:
    """Moves what a log holds to `LOG.1` if that is more than the limit, and what was there to `LOG.2` and so on.

    The part has the file open for appending, and goes on writing to it also when this process is killed. So the file
    stays: it is copied and then emptied. A line that is written between the last look and the emptying, some
    microseconds, is lost.

    Args:
        log: The file; it may be missing.
        limit_bytes: What it may hold.
        older: How many older files are kept.

    Returns:
        Whether it was emptied.

    Raises:
        OSError: The copy cannot be written. The log is as it was.
    """
    try:
        if log.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    copy = _older(log, 0)
    with log.open("r+b") as source:
        try:
            with copy.open("wb") as target:
                shutil.copyfileobj(source, target)
                for number in range(older, 0, -1):
                    if _older(log, number - 1).exists():
                        _older(log, number - 1).replace(_older(log, number))
                shutil.copyfileobj(source, target)  # what has come meanwhile
                target.flush()
        except OSError:
            copy.unlink(missing_ok=True)
            raise
        source.truncate(0)
    return True


def _older(log: Path, number: int) -> Path:
    """The file of an older log; 0 is the one that is being written."""
    return log.with_name(f"{log.name}.{number}")
