"""Products of half-precision features with a query, without NumPy's conversion, which takes most of a scan's time.

A half has a sign, 5 bits of exponent (bias 15) and 10 of fraction; a single has a sign, 8 bits (bias 127) and 23.
Taken as a signed integer of 32 bits and shifted left by 13, a half has its exponent and its fraction where a single
has the low bits of its own; the mask takes away the copies of the sign above them. As the same exponent means 2^112
times less in a single, the outcome is the half's value times 2^-112, exactly, zeros and subnormal halves included.
The query is multiplied by 2^112 beforehand, which is exact, too.

Two cases need care. Subnormal halves come out as subnormal singles, which a processor may be told to take for zero
(libraries built with `-ffast-math` do that to the thread that loads them): then NumPy converts. And infinities and
NaN, which no store should hold, come out as finite: `lengths` tells their rows by NaN.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Halves = npt.NDArray[np.float16]
Singles = npt.NDArray[np.float32]

_SCALE = np.float32(2.0**112)
_SHIFT = np.int32(13)
_SIGN_EXPONENT_FRACTION = np.uint32(0x8FFFE000).view(np.int32)
# No finite half reaches it.
_BEYOND_HALF = 65536.0
# 1 MiB of singles: stays in a core's cache, and is too little for a product to start threads of its own.
_BLOCK_VALUES = 2**18
_SUBNORMAL = np.array([2.0**-140], np.float32)


def dot(features: Halves, query: Singles) -> Singles:
    """The product of each feature, (n, d), with a query, (d,), in single precision."""
    if _subnormals_are_lost():
        return features.astype(np.float32) @ query
    products = np.empty(len(features), np.float32)
    scaled = query * _SCALE
    for part, rows in _blocks(features):
        np.matmul(part, scaled, out=products[rows])
    return products


def lengths(features: Halves) -> Singles:
    """The length of each feature, (n, d), in single precision; NaN where a value is infinite or no number."""
    found = np.empty(len(features), np.float32)
    for part, rows in _singles(features):
        np.einsum("ij,ij->i", part, part, out=found[rows])
    np.sqrt(found, out=found)
    for row in np.flatnonzero(~(found < _BEYOND_HALF)):
        if not np.isfinite(features[row]).all():
            found[row] = np.nan
    return found


def _singles(features: Halves) -> Iterator[tuple[Singles, slice]]:
    """The features in single precision, some rows at a time in a buffer that is used again, and which rows they are."""
    if _subnormals_are_lost():
        step = max(1, _BLOCK_VALUES // max(1, features.shape[1]))
        for start in range(0, len(features), step):
            rows = slice(start, min(start + step, len(features)))
            yield features[rows].astype(np.float32), rows
        return
    for part, rows in _blocks(features):
        part *= _SCALE
        yield part, rows


def _blocks(features: Halves) -> Iterator[tuple[Singles, slice]]:
    """The features times 2^-112, some rows at a time in a buffer that is used again, and which rows they are."""
    step = max(1, _BLOCK_VALUES // max(1, features.shape[1]))
    buffer = np.empty((min(step, len(features)), features.shape[1]), np.int32)
    bits = features.view(np.int16)
    for start in range(0, len(features), step):
        rows = slice(start, min(start + step, len(features)))
        part = buffer[: rows.stop - start]
        np.left_shift(bits[rows], _SHIFT, out=part)
        np.bitwise_and(part, _SIGN_EXPONENT_FRACTION, out=part)
        yield part.view(np.float32), rows


def _subnormals_are_lost() -> bool:
    """Whether this thread computes with subnormal numbers as if they were zero."""
    return not bool((_SUBNORMAL * _SCALE)[0])
