"""Numbers are written so that they read back as what they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trading.decision.numbers import FLOAT_BYTES, write_float32, write_integer

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def written(write, value):
    out = np.zeros(64, np.uint8)
    return out[: write(out, 0, value)].tobytes().decode()


@settings(deadline=None)
@given(FLOAT32)
@example(0.0)
@example(-0.0)
@example(float(np.float32(1e-45)))  # the smallest, and subnormal
@example(float(np.finfo(np.float32).max))
@example(float(np.float32(9.9999994e-6)))
@example(float(np.float32(999999999.0)))
@example(float(np.nextafter(np.float32(1.0), np.float32(0.0))))
def test_every_float32_reads_back_as_itself(value):
    text = written(write_float32, value)
    assert np.float32(json.loads(text)).tobytes() == np.float32(value).tobytes()
    assert isinstance(json.loads(text), float)
    assert len(text) <= FLOAT_BYTES


def test_a_wide_sample_of_all_bit_patterns_reads_back():
    bits = np.random.default_rng(5).integers(0, 2**32, 20_000, np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    found = np.array([json.loads(written(write_float32, float(v))) for v in values], np.float32)
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"), (-3.0, "-3.0"), (100.0, "100.0"), (0.00012207031, "0.000122070313"), (1e-6, "9.99999997e-7"),
        (float("nan"), "null"), (float("inf"), "null"), (1e20, "1.00000002e20"), (65504.0, "65504.0"),
    ],
)  # fmt: skip
def test_floats_are_written_as_people_would(value, text):
    assert written(write_float32, float(np.float32(value))) == text


@settings(deadline=None)
@given(st.integers(-(2**62), 2**62))
def test_integers(value):
    assert written(write_integer, value) == str(value)
