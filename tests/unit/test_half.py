from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from common.ranking import half

ALL = np.arange(2**16, dtype=np.uint16).view(np.float16)
FINITE = ALL[np.isfinite(ALL)]


def random_halves(rows: int, dimension: int, seed: int = 0) -> npt.NDArray[np.float16]:
    """Features with both signs, zeros, and values so small that they are subnormal."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, dimension)) * rng.choice([0, 1e-6, 1e-2, 1], (rows, dimension))
    return values.astype(np.float16)


@pytest.mark.parametrize("factor", [1.0, -1.0, 2.0**-13])
def test_every_finite_half_has_its_exact_value(factor: float) -> None:
    products = half.dot(FINITE[:, None], np.array([factor], np.float32))
    assert np.array_equal(products, FINITE.astype(np.float32) * np.float32(factor))


@pytest.mark.parametrize(("rows", "dimension"), [(0, 8), (1, 1), (3, 4096), (200, 4096), (65, 2**13), (2, 2**18 + 1)])
def test_products_are_those_of_double_precision(rows: int, dimension: int) -> None:
    features = random_halves(rows, dimension)
    query = np.random.default_rng(1).normal(size=dimension)
    query = (query / np.linalg.norm(query)).astype(np.float32)
    found = half.dot(features, query)
    assert (found.shape, found.dtype) == ((rows,), np.float32)
    exact = features.astype(np.float64) @ query.astype(np.float64)
    assert np.allclose(found, exact, rtol=1e-5, atol=1e-6 * np.sqrt(dimension))


@pytest.mark.parametrize(("rows", "dimension"), [(0, 8), (1, 1), (200, 4096), (2, 2**18 + 1)])
def test_lengths_are_those_of_double_precision(rows: int, dimension: int) -> None:
    features = random_halves(rows, dimension)
    assert np.allclose(half.lengths(features), np.linalg.norm(features.astype(np.float64), axis=1), rtol=1e-5)


def test_the_smallest_and_the_largest_features_have_their_length() -> None:
    features = np.zeros((3, 4096), np.float16)
    features[1, 7] = 2.0**-24
    features[2] = -65504
    assert half.lengths(features).tolist() == pytest.approx([0, 2.0**-24, 65504 * 64], rel=1e-6)


def test_features_that_are_no_numbers_have_no_length() -> None:
    features = np.ones((6, 4), np.float16)
    features[1, 2], features[2, 0], features[4, 3] = np.inf, np.nan, -np.inf
    lengths = half.lengths(features)
    assert np.isnan(lengths).tolist() == [False, True, True, False, True, False]
    assert lengths[0] == 2


@pytest.fixture
def thread_without_subnormals() -> Iterator[ThreadPoolExecutor]:
    """A thread whose processor takes subnormal numbers for zero, as TensorFlow's and `-ffast-math` have it."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        pytest.skip("the control word is set as glibc does on x86-64")
    libm = ctypes.CDLL("libm.so.6")

    def set_control_word() -> None:
        environment = (ctypes.c_uint32 * 8)()
        assert libm.fegetenv(environment) == 0
        environment[7] |= 0x8040  # FTZ and DAZ in MXCSR
        assert libm.fesetenv(environment) == 0

    with ThreadPoolExecutor(1, initializer=set_control_word) as pool:
        yield pool


def test_nothing_is_lost_where_subnormal_numbers_are(thread_without_subnormals: ThreadPoolExecutor) -> None:
    features = np.full((3, 4096), 2.0**-20, np.float16)
    query = np.full(4096, 1 / 64, np.float32)
    tiny = np.array([2.0**-140], np.float32)
    assert thread_without_subnormals.submit(lambda: float((tiny * np.float32(2.0**112))[0])).result() == 0
    found = thread_without_subnormals.submit(half.dot, features, query).result()
    assert found.tolist() == [2.0**-14] * 3
    assert thread_without_subnormals.submit(half.lengths, features).result().tolist() == [2.0**-14] * 3
