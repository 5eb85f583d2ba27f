"""Several pictures as one query, and what is kept of a query for its next pages."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from common.errors import ImageSearchError, QueryCancelled
from common.messages import QueryImage, SearchQuery
from common.searches import QueryFeature
from tests.unit.helpers import unit_vectors
from workers.queries import combined, kept, normalised, restored


def test_a_query_is_the_weighted_mean_with_length_1() -> None:
    features = unit_vectors(3)
    weights = [1.0, 2.0, -0.5]
    query = combined(list(features), weights)
    expected = sum(weight * feature for weight, feature in zip(weights, features, strict=True))
    assert query.dtype == np.float32
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-6)
    assert np.allclose(query, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_negative_weight_moves_away() -> None:
    wanted, unwanted = unit_vectors(2)
    query = combined([wanted, unwanted], [1, -0.5])
    assert query @ unwanted < wanted @ unwanted
    assert query @ wanted > 0.5


def test_a_single_feature_is_the_query_as_it_is() -> None:
    feature = unit_vectors(1)[0]
    assert combined([feature], [7.0]) is feature


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_pictures_that_cancel_each_other_out_are_an_error(noise: float) -> None:
    feature, other = unit_vectors(2)
    # The same picture, as it was stored in half precision.
    again = normalised((feature + noise * other).astype(np.float16))
    with pytest.raises(QueryCancelled, match="cancel each other out"):
        combined([feature, again], [3, -3])


def test_features_of_zeros_are_an_error_only_together() -> None:
    zeros = np.zeros(8, np.float32)
    assert combined([zeros], [1]) is zeros
    assert np.array_equal(normalised(zeros), zeros)
    with pytest.raises(QueryCancelled):
        combined([zeros, zeros], [1, 1])


def test_what_is_kept_is_restored_bit_by_bit() -> None:
    feature = unit_vectors(1)[0]
    assert np.array_equal(restored(kept(feature, "model-1"), "model-1"), feature)


def test_a_query_of_another_model_or_an_expired_one_says_so() -> None:
    with pytest.raises(ImageSearchError, match="has expired"):
        restored(None, "model-1")
    with pytest.raises(ImageSearchError, match="model has changed"):
        restored(QueryFeature("model-2", b""), "model-1")


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 10.5, -11])
def test_weights_have_limits(weight: float) -> None:
    with pytest.raises(ValidationError):
        QueryImage(weight=weight)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": [{"weight": -1}, {"weight": 0}]}, "at least one weight must be positive"),
        ({"images": [{}] * 17}, "at most 16"),
        ({"images": [{}] * 2, "crop": (0, 0, 1, 1)}, "single picture"),
    ],
)
def test_queries_that_make_no_sense_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SearchQuery.model_validate(fields)


def test_a_single_picture_may_have_a_weight_and_a_crop() -> None:
    query = SearchQuery(images=(QueryImage(weight=2),), crop=(0, 0, 1, 0.5))
    assert query.pictures == (QueryImage(weight=2),)
    assert SearchQuery(image_id="a").pictures == (QueryImage(image_id="a"),)
