"""The candidate codes of one segment: what its features are in a basis, and which folder each row is in.

They are derived from the segment alone, which never changes, and kept in the local cache folder of the host.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.files import locked
from common.ranking.basis import Basis, product_quantiser
from common.ranking.checked import DamagedFile, load_arrays, save_arrays
from common.store import Segment

logger = logging.getLogger(__name__)

SUFFIX = ".codes"
# 8,192 reduced vectors of 256 values are 8 MiB.
_BLOCK_ROWS = 8192

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentCodes:
    """What is kept of a segment for the search of candidates.

    Attributes:
        codes: (n, bytes) uint8, one code a row.
        folders: The folders that hold images of the segment, as public paths, in any order.
        folder_of: (n,) int32, for each row a position in `folders`.
    """

    codes: Codes
    folders: list[str]
    folder_of: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.codes)


def codes_of(segment: Segment, basis: Basis, directory: Path) -> SegmentCodes:
    """The codes of a segment: read if they were saved, else made and saved.

    Raises:
        FileNotFoundError: The segment is gone.
        SegmentDamaged: Its records cannot be read.
    """
    path = directory / f"{segment.name}{SUFFIX}"
    saved = _saved(path, segment, basis)
    if saved is not None:
        return saved
    directory.mkdir(parents=True, exist_ok=True)
    # One process of the host makes them, the others wait and read.
    with locked(directory / "lock"):
        codes = _saved(path, segment, basis)
        if codes is None:
            codes = _encode(segment, basis)
            try:
                _save(path, segment, codes)
            except OSError as error:
                logger.warning("%s cannot be saved: %s; it is made anew at the next start", path, error)
    return codes


def _saved(path: Path, segment: Segment, basis: Basis) -> SegmentCodes | None:
    """What was saved of a segment; a file that cannot be used is reported, and replaced by the caller."""
    try:
        return _load(path, segment, basis)
    except FileNotFoundError:
        return None
    except (DamagedFile, OSError) as error:
        logger.warning("%s; it is made anew", error)
        return None


def _encode(segment: Segment, basis: Basis) -> SegmentCodes:
    records = segment.records()
    folders: dict[str, int] = {}
    folder_of = [folders.setdefault(record.public_path.rpartition("/")[0], len(folders)) for record in records]
    codes = np.empty((segment.count, basis.code_bytes), np.uint8)
    quantiser = product_quantiser(basis.dimension, basis.codebook)
    for start in range(0, segment.count, _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        codes[rows] = quantiser.compute_codes(basis.project(segment.features[rows]))
    return SegmentCodes(codes, list(folders), np.array(folder_of, np.int32))


def _save(path: Path, segment: Segment, codes: SegmentCodes) -> None:
    # No path holds a zero byte.
    folders = np.frombuffer("\0".join(codes.folders).encode("utf-8", "surrogateescape"), np.uint8)
    identity = np.frombuffer(segment.identity, np.uint8)
    save_arrays(path, {"codes": codes.codes, "folders": folders, "folder_of": codes.folder_of, "identity": identity})


def _load(path: Path, segment: Segment, basis: Basis) -> SegmentCodes:
    stored = load_arrays(path)
    try:
        codes, folder_of, identity = stored["codes"], stored["folder_of"], stored["identity"].tobytes()
        names = stored["folders"].tobytes().decode("utf-8", "surrogateescape")
    except KeyError as error:
        raise DamagedFile(path, f"it lacks {error}") from error
    if identity != segment.identity:
        raise DamagedFile(path, "it belongs to another segment of the same name")
    if codes.shape != (segment.count, basis.code_bytes) or len(folder_of) != segment.count:
        raise DamagedFile(path, f"it holds {len(codes)} codes for {segment.count} rows")
    return SegmentCodes(codes, names.split("\0") if segment.count else [], folder_of)
