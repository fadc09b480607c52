"""What makes a model's answer usable."""

from __future__ import annotations

import numpy as np

from trading.models.prediction import to_prediction, usable_rows


def test_rows_that_must_not_be_used():
    good = ([0.5, 0.25, 0.25], [0.5, -1.0, 1.0, 0.0], [0.25] * 4, [0.5])
    bad = [
        ([0.5, 0.25, np.nan], *good[1:]),
        ([0.5, 0.75, -0.25], *good[1:]),
        ([0.5, 0.25, 0.5], *good[1:]),
        (good[0], [0.0, 0.0, 0.0, 1.1], *good[2:]),
        (good[0], [0.0, 0.0, 0.0, np.inf], *good[2:]),
        (*good[:2], [0.5, 0.5, 0.5, 0.5], good[3]),
        (*good[:2], [1.5, -0.5, 0.0, 0.0], good[3]),
        (*good[:3], [np.nan]),
        (*good[:3], [-1.2]),
    ]
    columns = [np.array(c, np.float32) for c in zip(good, *bad, strict=True)]
    assert usable_rows(*columns, 1e-3).tolist() == [True] + [False] * len(bad)


def test_a_target_within_rounding_of_its_bounds_is_brought_into_them():
    columns = ([[0.5, 0.25, 0.25]] * 3, [[0.0] * 7] * 3, [[0.25] * 4 + [0.0] * 3] * 3, [[1.0005], [-1.0005], [1.1]])
    found = to_prediction([np.array(c, np.float32) for c in columns], "7")
    assert found.valid.tolist() == [True, True, False]
    assert found.target_position.tolist()[:2] == [1.0, -1.0]
    assert found.model_version == "7"
