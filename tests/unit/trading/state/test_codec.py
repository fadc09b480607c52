"""A snapshot is whole, of this log and of this version, or it is not used."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.fakes import limit_set
from trading.market import Tick
from trading.state import codec as module
from trading.state.codec import UnusableSnapshot, decode_snapshot, encode_snapshot, newest_whole, to_chunks
from trading.state.partition import PartitionState

START = 1_600_000_000_000_000_000


def made(symbols=3, offset=41):
    state = PartitionState(limit_set(max_value_at_risk=1e6, lot=0.5))
    ticks = [Tick(f"S{k}", START + k, last=10.0 + k) for k in range(symbols)]
    state.replay(ticks, [START] * symbols, range(symbols), {1: (-2.5, 11.0)}, assumed=True)
    state.book.accept("S2", 4.0, 12.0, 7, assumed=False)
    state.fills_to, state.control_to = 5, 6
    return state.snapshot(2, offset, 17, state.dump_features())


def test_what_is_read_is_what_was_written():
    original = made()
    found = decode_snapshot(encode_snapshot(original, "log"), "log", 2)
    assert (found.offset, found.decisions_from, found.fills_to, found.control_to) == (41, 17, 5, 6)
    state = PartitionState.of(found)
    assert state.book.positions() == {"S1": -2.5}
    assert state.book.position("S2").buying == 4.0
    assert state.book.working.open[7].left == 4.0
    assert state.book.limits.of("S1").lot == 0.5
    assert state.book.dump() == original.book
    np.testing.assert_array_equal(found.features.ints, original.features.ints)
    np.testing.assert_array_equal(found.features.floats, original.features.floats)
    assert found.features.symbols == ["S0", "S1", "S2"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b[:-1], "digest"),
        (lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:], "digest"),
        (lambda b: b"", "digest"),
        (lambda b: module.digest(b"rubbish") + b"rubbish", "another version"),
        (lambda b: encode_snapshot(made(), "another log"), "another log"),
    ],
)
def test_anything_else_is_refused_with_its_reason(change, says):
    with pytest.raises(UnusableSnapshot, match=says):
        decode_snapshot(change(encode_snapshot(made(), "log")), "log", 2)


def test_one_of_another_partition_or_feature_version_is_refused(monkeypatch):
    payload = encode_snapshot(made(), "log")
    with pytest.raises(UnusableSnapshot, match="log\\[2\\]"):
        decode_snapshot(payload, "log", 3)
    monkeypatch.setattr(module, "FEATURE_VERSION", 99)
    with pytest.raises(UnusableSnapshot, match="features 1"):
        decode_snapshot(payload, "log", 2)


def test_a_book_of_another_version_is_refused():
    other = msgspec.structs.replace(made().book, layout="other columns")
    payload = encode_snapshot(msgspec.structs.replace(made(), book=other), "log")
    with pytest.raises(UnusableSnapshot, match="its book"):
        decode_snapshot(payload, "log", 2)


def test_chunks_make_the_newest_whole_snapshot(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 100)
    old, new = encode_snapshot(made(offset=5), "log"), encode_snapshot(made(offset=9), "log")
    values = [value for payload, offset in ((old, 5), (new, 9)) for _, value in to_chunks(payload, offset)]
    assert len(values) > 4
    assert newest_whole(values) == new
    assert newest_whole(values[:-1]) == old
    assert newest_whole([b"rubbish", *values[:2]]) is None
    assert newest_whole([]) is None


def test_keys_repeat_so_that_compaction_keeps_the_newest():
    payload = encode_snapshot(made(), "log")
    assert [key for key, _ in to_chunks(payload, 5)] == [key for key, _ in to_chunks(payload, 9)]
