"""How far two models are apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters import probes
from exporters.errors import ExportError, ParityError
from exporters.parity import comparison
from exporters.parity.comparison import ParityComparison, compare, require
from exporters.parity.decisions import actions, rank_correlation, task_of
from exporters.parity.distance import max_abs, max_rel, max_ulp
from exporters.parity.tolerance import Usual, movement, steady, tolerances, usual
from trading.models.signature import (
    MODELS,
    REGIME_DETECTION,
    TRADING_DECISION,
    ModelSignature,
    TensorSpec,
    contract,
)


def judged(a, b, **given):
    return compare(REGIME_DETECTION, [a], [b], where="file", rows="golden", **given)


def test_a_difference_a_shape_a_dtype_and_nan_fail():
    right = np.full((4, 3), 1 / 3, np.float32)
    assert judged(right, right).passed
    comparison.require(REGIME_DETECTION, judged(right, right))
    for wrong in (right + np.float32(1e-4), right * np.float32(np.nan), right * np.float32(np.inf)):
        found = judged(right, wrong)
        assert not found.passed
        with pytest.raises(ParityError, match="regime_probabilities differs by"):
            comparison.require(REGIME_DETECTION, found)
    for other in (right[:, :2], right.astype(np.float64), right[:3]):
        with pytest.raises(ParityError, match="the signature says"):
            judged(right, other)


def share(takes, gives, *given, **more):
    signature = ModelSignature(
        "m", "onnxruntime", (TensorSpec("x", (1,), takes),), (TensorSpec("y", (1,), gives),), (), None
    )
    return tolerances(signature, *given, **more)[0].share


def test_the_tolerance_knows_dtype_precision_device_and_tf32():
    assert share("FP32", "INT64", "fp32", "cpu") == 0.0
    assert share("FP32", "FP32", "fp16", "cpu") > share("FP32", "FP32", "fp32", "gpu", tf32=True)
    assert share("FP32", "FP32", "fp32", "gpu", tf32=True) > share("FP32", "FP32", "fp32", "gpu")
    assert share("FP32", "FP32", "fp32", "gpu") > share("FP32", "FP32", "fp32", "cpu")
    assert share("FP64", "FP64", "fp64", "cpu") < share("FP32", "FP32", "fp32", "cpu")


def test_doubles_made_of_single_precision_are_judged_as_that():
    assert share("FP32", "FP64", "fp32", "cpu") == share("FP32", "FP32", "fp32", "cpu")
    assert share("FP32", "FP64", "fp32", "gpu") == share("FP32", "FP32", "fp32", "gpu")
    assert share("FP16", "FP64", "fp32", "cpu") == share("FP16", "FP16", "fp32", "cpu")
    assert share("INT64", "FP64", "fp32", "cpu") == share("FP64", "FP64", "fp64", "cpu")


NUMBER = ModelSignature("m", "onnxruntime", (), (TensorSpec("y", (1,)),), (), None)


def differs(wanted, by, **given):
    wanted = np.array(wanted, np.float32).reshape(-1, 1)
    got = wanted + np.array(by, np.float32).reshape(-1, 1)
    return not compare(NUMBER, [wanted], [got], where="file", **{"rows": "own", **given}).passed


def test_each_row_is_judged_by_its_own_magnitude_or_the_usual_one():
    assert not differs([1e6, 1e6], 1.0)
    assert differs([1e6, 1e6], 1e4)
    # One row that means nothing lets no other row be wrong.
    assert differs([1e9, 1.0, 2.0, 3.0], [0.0, 0.1, 0.0, 0.0])
    assert differs([3.0, 1.0, 2.0, 3.0], [0.0, 1e-3, 0.0, 0.0], usually=[Usual(2.0, 2.0)])
    # An answer near zero is a sum of what is not.
    assert not differs([0.0, 1.0, 2.0, 3.0], [1e-6, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-12])
def test_small_answers_are_not_all_alike(size):
    assert differs(np.arange(1.0, 9.0) * size, 0.1 * size)
    assert not differs(np.arange(1.0, 9.0) * size, 1e-6 * size)


def test_what_lies_within_one_is_rounded_as_numbers_of_one_are():
    """A sigmoid's answers to rows that mean nothing to it: tiny, alike, and off by what a tanh is off."""
    wanted = np.full((8, 64), 1e-7, np.float32)
    wanted[:, 0] = np.linspace(0.001, 0.002, 8)
    got = wanted + np.float32(1.5e-7) * (np.arange(64) % 3 == 0)
    sizes = usual([wanted])
    assert steady([wanted], [got], [1e-3], sizes).all()
    assert not steady([wanted], [got + np.float32(1e-5)], [1e-3], sizes).any()
    # Of answers that are all tiny it is no excuse: their own size bounds what may differ.
    assert not steady([wanted * 1e-3], [got * np.float32(2e-3)], [1e-3], usual([wanted * 1e-3])).any()


def test_hostile_rows_are_judged_by_the_largest_and_by_how_far_their_answers_move_by_themselves():
    assert not differs([1e6, 1.0], [0.0, 1.0], rows="adversarial")
    assert differs([1.0, 1.0], [0.0, 1.0], rows="adversarial")
    assert not differs([1.0, 1.0], [0.0, 1.0], rows="adversarial", moves=[np.array([[0.0], [1.0]])])

    def steep(arrays):
        return [arrays[0] * 1000 + (arrays[0] >= 1.0)]

    rows = [np.array([[1.0], [0.5], [0.0], [1e-40]], np.float32)]
    (moves,) = movement(steep, rows, steep(rows))
    assert moves[0, 0] > 0.9
    assert 0.0 < moves[1, 0] < 1e-3
    assert moves[2, 0] == 0.0
    assert moves[3, 0] == pytest.approx(1e-37)


def test_what_may_be_anything_is_not_said_to_differ():
    endless = [np.array([[np.inf], [0.0]])]
    found = compare(
        NUMBER, [np.ones((2, 1), np.float32)], [np.array([[np.inf], [1.0]], np.float32)], where="file",
        rows="adversarial", moves=endless,
    )  # fmt: skip
    assert found.passed
    assert found.max_abs == 0.0


def test_rows_that_only_rounding_answers_are_not_kept_for_a_release():
    wanted, got = np.array([[1.0], [2.0], [np.nan]]), np.array([[1.0], [2.1], [np.nan]])
    assert steady([wanted], [got], [1e-5], [Usual()]).tolist() == [True, False, True]
    assert steady([np.array([[1], [2]])], [np.array([[1], [3]])], [0.0], [Usual()]).tolist() == [True, False]


def stepped(value, steps):
    for _ in range(steps):
        value = math.nextafter(value, math.inf)
    return value


@given(st.floats(-1e300, 1e300), st.integers(0, 50))
def test_ulp_counts_the_numbers_between(value, steps):
    later = stepped(value, steps)
    assert max_ulp(np.array([value]), np.array([later])) == steps


def test_ulp_spans_zero_and_ignores_whole_numbers():
    tiny = np.float32(1e-45)
    assert max_ulp(np.array([-tiny]), np.array([tiny])) == 2
    assert max_ulp(np.array([1]), np.array([5])) == 0
    assert max_ulp(np.array([1.0]), np.nextafter(np.array([1.0]), 2)) == 1


def test_nan_equals_nan_and_infinity_itself():
    a = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert max_abs(a, a) == max_rel(a, a) == 0.0
    assert max_abs(a, np.array([0.0, np.inf, -np.inf, 1.0])) == np.inf
    assert max_rel(np.array([0.0]), np.array([1e-9])) == np.inf


def test_an_action_is_an_order_a_label_the_largest_or_the_sign():
    regimes = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]], np.float32)
    assert actions(REGIME_DETECTION, [regimes]).tolist() == [1, 0]
    target = np.array([[0.5], [-0.5], [0.01], [np.nan]], np.float32)
    rest = [np.zeros((4, 3), np.float32), np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)]
    assert actions(TRADING_DECISION, [*rest, target]).tolist() == [1, -1, 0, 0]
    label = ModelSignature("m", "onnxruntime", (), (TensorSpec("label", (1,), "INT64"),), (), None)
    assert actions(label, [np.array([[2], [0]])]).tolist() == [2, 0]
    single = ModelSignature("m", "onnxruntime", (), (TensorSpec("y", (1,)),), (), None)
    assert actions(single, [np.array([[-3.0], [0.0], [2.0]], np.float32)]).tolist() == [-1, 0, 1]


def test_a_label_may_differ_only_where_the_source_has_a_tie():
    spec = ModelSignature(
        "m", "onnxruntime", (), (TensorSpec("label", (1,), "INT64"), TensorSpec("probabilities", (2,))), (), None
    )
    tie, clear = np.array([[0.5, 0.5]], np.float32), np.array([[0.4, 0.6]], np.float32)
    zero, one = np.array([[0]]), np.array([[1]])
    found = compare(spec, [zero, tie], [one, tie], where="file", rows="own")
    assert found.passed
    assert (found.flips[0].flipped, found.flips[0].tied) == (1, 1)
    assert not compare(spec, [one, clear], [zero, clear], where="file", rows="own").passed


def of(name, *dims, dtype="FP32"):
    return ModelSignature("m", "onnxruntime", (TensorSpec("x", (4,)),), (TensorSpec(name, dims, dtype),), (), None)


def test_a_difference_is_told_on_the_scale_that_it_is_judged_on():
    wanted = np.float32([[6_200.0], [5_800.0], [0.001]])
    got = wanted + np.float32([[0.031], [0.0], [0.0]])
    (found,) = compare(of("prediction", 1), [wanted], [got], where="file", rows="golden").differences
    assert found.max_abs == pytest.approx(0.031, rel=0.02)
    assert (found.relative, found.limit) == (pytest.approx(5e-6, rel=0.02), 1e-5)
    assert found.passed
    whole = np.int64([[1], [2]])
    for other, relative in ((whole, 0.0), (whole + 1, 1.0)):
        (found,) = compare(of("label", 1, dtype="INT64"), [whole], [other], where="file", rows="golden").differences
        assert (found.relative, found.limit, found.passed) == (relative, 0.0, not relative)
    (found,) = compare(of("y", 1), [wanted], [wanted * np.nan], where="file", rows="golden").differences
    assert not found.passed
    assert found.relative == np.inf


def test_what_is_furthest_off_is_what_is_nearest_to_its_own_limit():
    spec = ModelSignature(
        "m",
        "onnxruntime",
        (TensorSpec("x", (4,)),),
        (TensorSpec("large", (1,)), TensorSpec("small", (1,))),
        (),
        None,
    )
    wanted = [np.float32([[9e5], [8e5]]), np.float32([[0.5], [0.25]])]
    got = [wanted[0] + np.float32(1.0), wanted[1] + np.float32(2e-6)]
    found = compare(spec, wanted, got, where="file", rows="golden")
    assert found.worst.output == "small"
    assert found.max_abs == 1.0
    assert found.relative == pytest.approx(5.3e-6, rel=0.1)


@pytest.mark.parametrize(
    ("signature", "task"),
    [(contract("trading_decision"), "action"), (of("label", 1, dtype="INT64"), "label"),
     (of("probabilities", 3), "label"), (of("logits", 3), "label"), (of("prediction", 1), "value"),
     (of("probability", 1), "value"), (of("embedding", 64), "value")],
)  # fmt: skip
def test_what_is_decided_from_a_models_answers(signature, task):
    assert task_of(signature) == task


def test_values_are_ranked_and_rows_without_meaning_are_not():
    wanted = np.arange(1.0, 41.0, dtype=np.float32)[:, None]
    got = wanted[::-1].copy()
    assert rank_correlation([wanted], [got]) == pytest.approx(-1.0)
    assert rank_correlation([wanted[:15]], [got[:15]]) is None
    assert rank_correlation([np.int64(wanted)], [np.int64(wanted)]) is None
    ranked = compare(of("y", 1), [wanted], [got], where="file", rows="golden")
    assert ranked.rank_correlation == pytest.approx(-1.0)
    assert compare(of("y", 1), [wanted], [got], where="file", rows="adversarial").rank_correlation is None
    with pytest.raises(
        ParityError, match=r"1.9e\+00 of what is usual.*1e-05 of it, is allowed, and rank cor.* -1\.0"
    ):
        require(of("y", 1), ranked)


def test_what_rounding_alone_orders_is_not_ranked():
    """A column that is all alike, and one that lies a unit in the last place apart."""
    wanted = np.column_stack([np.arange(40.0), np.ones(40)]).astype(np.float32)
    got = wanted.copy()
    got[7, 1] = np.nextafter(np.float32(1.0), np.float32(2.0))
    assert rank_correlation([wanted], [got]) == pytest.approx(1.0)
    assert rank_correlation([wanted[:, 1:]], [got[:, 1:]]) is None
    # What the other makes of it is what counts: one that answers all alike has no order.
    assert rank_correlation([wanted], [np.zeros_like(wanted)]) == 0.0


def test_flips_are_counted_a_row():
    a = np.array([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0]], np.float32)
    b = np.array([[0.4, 0.6, 0.0], [0.6, 0.4, 0.0]], np.float32)
    found = judged(a, b)
    assert found.flip_rate == 0.5
    assert (found + found).flips[1].of == 2
    assert ParityComparison([], []).flip_rate == 0.0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("make", [probes.golden, probes.adversarial])
def test_probes_have_the_signatures_shapes_and_are_not_all_alike(name, make):
    for spec, array in zip(MODELS[name].inputs, make(MODELS[name], 40), strict=True):
        assert array.shape == (40, *spec.dims)
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
        assert len(np.unique(array, axis=0)) > 1


def test_adversarial_rows_hold_zeros_denormals_and_extremes():
    (rows,) = probes.adversarial(REGIME_DETECTION, 32)
    assert (rows == 0).all(axis=1).any()
    assert ((rows != 0) & (np.abs(rows) < 1e-38)).any()
    assert np.abs(rows).max() == 1e6


def test_recorded_rows_are_the_kernels_of_that_source():
    one = probes.recorded(REGIME_DETECTION, 50, "simulate:calm?seed=3")
    again = probes.recorded(REGIME_DETECTION, 50, "simulate:calm?seed=3")
    other = probes.recorded(REGIME_DETECTION, 50, None)
    np.testing.assert_array_equal(one[0], again[0])
    assert not np.array_equal(one[0], other[0])
    plain = ModelSignature("m", "onnxruntime", (TensorSpec("x", (4,)),), (), (), None)
    assert probes.recorded(plain, 50, None) is None


def test_rows_of_ones_own_are_checked(tmp_path):
    spec = ModelSignature("m", "onnxruntime", (TensorSpec("x", (4,)),), (), (), None)
    good, bad = tmp_path / "x.npy", tmp_path / "bad.npy"
    np.save(good, np.ones((5, 4)))
    np.save(bad, np.ones((5, 3)))
    (found,) = probes.from_file(spec, good)
    assert found.dtype == np.float32
    with pytest.raises(ExportError, match=r"shape \[5, 3\]"):
        probes.from_file(spec, bad)
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ExportError, match="cannot be read as rows"):
        probes.from_file(spec, tmp_path / "object.npy")
    with pytest.raises(ExportError, match="cannot be read as rows"):
        probes.from_file(spec, tmp_path / "absent.npy")
