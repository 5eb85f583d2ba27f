"""Small files of arrays that are either whole or known to be damaged."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import StoreError
from common.files import write_atomically

_DIGEST_BYTES = 32


class DamagedFile(StoreError):
    """A derived file cannot be used; it is made anew from the store."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path} is damaged: {reason}")


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes arrays under a checksum, whole or not at all. The folder is made if it is not there.

    Raises:
        OSError: It cannot be written, for instance because the disk is full.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its other parameter is not a name of ours
    payload = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, hashlib.sha256(payload).digest() + payload)


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Reads what `save_arrays` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFile: It is not what was written.
    """
    data = path.read_bytes()
    digest, payload = data[:_DIGEST_BYTES], memoryview(data)[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise DamagedFile(path, "it differs from its checksum")
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedFile(path, error) from error
