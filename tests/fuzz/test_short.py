"""The short form of `make fuzz`: every input of the live path, mutated from good ones and from nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

PIECES = [
    b"\0",
    b"\n",
    b'"',
    b"\\u0000",
    b"\\n",
    b"null",
    b"-1",
    b"1e308",
    b"9" * 400,
    b"\xff",
    b"[" * 2000,
    b"{}",
    b"NaN",
    b"../../x",
]


@st.composite
def mutated(draw, examples):
    """A good input with pieces cut out, repeated, exchanged or put in; or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.sampled_from([0, 1, 2, 8, 40])))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8), st.just(data[begin:end] * 2)))
        data = data[:begin] + piece + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_comes_in_kills_what_reads_it(name):
    target = TARGETS[name]
    for example in target.examples:
        target.run(example)

    @settings(deadline=None, max_examples=300, database=None)
    @given(mutated(target.examples))
    def run(data):
        target.run(data)

    run()
