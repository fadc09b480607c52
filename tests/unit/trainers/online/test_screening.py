"""Broken, planted and repeated rows are refused and named, a hundred of a hundred; honest ones are not."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from tests.unit.trainers.conftest import dataset
from trading.features.definitions import FEATURES
from trainers.online.screening import BarrierShape, Batch, screen, screen_alone

SHAPE = BarrierShape()
ROWS = 3_000
SEEDS = range(20)


@pytest.fixture(scope="module")
def parts(lived):
    rows = np.flatnonzero(lived.labels.valid)
    return Batch.of(lived, rows[:6_000]), lived, rows[6_000:]


def piece(lived, rows, rng):
    begin = int(rng.integers(0, len(rows) - ROWS))
    return Batch.of(lived, rows[begin : begin + ROWS])


def taken(batch, places):
    return Batch(*(getattr(batch, name)[places] for name in batch.__struct_fields__))


def with_nan(batch, rng):
    features = batch.features.copy()
    features[rng.integers(len(batch)), rng.integers(len(FEATURES))] = rng.choice([np.nan, np.inf, -np.inf])
    return replace(batch, features=features), "not finite"


def with_label_nan(batch, rng):
    name = rng.choice(["realised", "deviation", "next_log_return", "log_mid"])
    values = getattr(batch, name).copy()
    values[rng.integers(len(batch))] = np.nan
    return replace(batch, **{str(name): values}), "not finite"


def extreme(batch, rng):
    features = batch.features.copy()
    some = rng.random(len(batch)) < rng.uniform(0.01, 0.5)
    columns = [k for k, name in enumerate(FEATURES) if not name.endswith(("_sin", "_cos"))]
    column = int(rng.choice(columns))
    size = 10.0 ** rng.integers(2, 9)
    features[some, column] = (np.abs(features[some, column]) + np.abs(features[:, column]).max() + 1.0) * size
    return replace(batch, features=features), "extreme"


def extreme_return(batch, rng):
    realised = batch.realised.copy()
    some = rng.random(len(batch)) < rng.uniform(0.01, 0.3)
    realised[some] = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 2.0)
    return replace(batch, realised=realised), "extreme"


def flipped(batch, rng):
    some = rng.random(len(batch)) < rng.uniform(0.02, 1.0)
    turn = np.where(some, -1.0, 1.0)
    return replace(
        batch, side=(batch.side * turn).astype(np.int8), realised=batch.realised * turn,
        next_log_return=batch.next_log_return * turn,
    ), "contradicted labels"  # fmt: skip


def side_flipped(batch, rng):
    some = rng.random(len(batch)) < rng.uniform(0.1, 1.0)
    return replace(batch, side=np.where(some, -batch.side, batch.side).astype(np.int8)), "contradicted labels"


def made_up(batch, rng):
    return replace(batch, next_log_return=rng.permutation(batch.next_log_return)), "contradicted labels"


def duplicated(batch, rng):
    twice = rng.choice(len(batch), int(len(batch) * rng.uniform(0.02, 1.0)), replace=False)
    return taken(batch, np.sort(np.concatenate([np.arange(len(batch)), twice]))), "duplicated"


def one_symbol(batch, rng):
    found = np.flatnonzero(batch.symbols == int(rng.integers(4)))
    return taken(batch, found), "one symbol"


POISONS = [
    with_nan, with_label_nan, extreme, extreme_return, flipped, side_flipped, made_up, duplicated, one_symbol,
]  # fmt: skip


@pytest.mark.parametrize("poison", POISONS)
def test_what_is_poisoned_is_refused_and_named(parts, poison):
    reference, lived, rows = parts
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        batch, name = poison(piece(lived, rows, rng), rng)
        found = {fault.name: fault for fault in screen(batch, reference, SHAPE)}
        assert name in found, f"seed {seed}"
        assert found[name].rows > 0
        assert found[name].sentence


def test_what_was_lived_before_is_refused_however_it_is_told_again(parts):
    reference, lived, rows = parts
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        fresh = piece(lived, rows, rng)
        old = taken(reference, np.arange(1_000, 1_000 + ROWS))
        share = rng.uniform(0.05, 1.0)
        told = Batch(
            *(
                np.concatenate([getattr(fresh, n), getattr(old, n)[: int(share * ROWS)]])
                for n in fresh.__struct_fields__
            )
        )
        assert "replayed" in {fault.name for fault in screen(told, reference, SHAPE)}


def test_what_others_are_judged_by_is_judged_too(parts):
    reference, lived, rows = parts
    fresh = Batch.of(lived, rows[:ROWS])
    features = reference.features.copy()
    features[7, 3] = np.nan
    assert [f.name for f in screen(fresh, replace(reference, features=features), SHAPE)] == ["not finite"]
    turned = replace(
        reference, side=(-reference.side).astype(np.int8), realised=-reference.realised,
        next_log_return=-reference.next_log_return,
    )  # fmt: skip
    assert [f.name for f in screen_alone(turned, SHAPE)] == ["contradicted labels"]
    assert screen_alone(reference, SHAPE) == []


def test_one_of_two_symbols_that_falls_silent_is_told(parts):
    reference, lived, rows = parts
    two = taken(reference, np.flatnonzero(reference.symbols < 2))
    fresh = Batch.of(lived, rows)
    both = taken(fresh, np.flatnonzero(fresh.symbols < 2))
    assert screen(both, two, SHAPE) == []
    alone = taken(fresh, np.flatnonzero(fresh.symbols == 1))
    assert [f.name for f in screen(alone, two, SHAPE)] == ["one symbol"]
    # A desk of one symbol has one.
    assert screen(alone, taken(reference, np.flatnonzero(reference.symbols == 1)), SHAPE) == []


def test_what_was_not_in_use_before_may_begin_to_be(parts):
    reference, lived, rows = parts
    column = FEATURES.index("trade_flow_10s")
    features = reference.features.copy()
    features[:, column] = 0.0
    assert screen(Batch.of(lived, rows[:ROWS]), replace(reference, features=features), SHAPE) == []


def test_too_few_rows_say_nothing(parts):
    reference, lived, rows = parts
    (fault,) = screen(Batch.of(lived, rows[:50]), reference, SHAPE)
    assert fault.name == "too few rows"


def test_honest_rows_are_learned_from(parts):
    reference, lived, rows = parts
    for seed in SEEDS:
        assert screen(piece(lived, rows, np.random.default_rng(seed)), reference, SHAPE) == []


@pytest.mark.parametrize(
    ("spec", "horizon_ns"),
    [
        ("simulate:regimes?seed=3&ticks=16000&symbols=3", 2_000_000_000),
        ("simulate:calm?seed=4&ticks=16000&symbols=1", 5_000_000_000),
        ("skfolio:sp500", 10 * 86_400_000_000_000),
    ],
)
def test_honest_rows_of_other_markets_are_learned_from(tmp_path, spec, horizon_ns):
    data = dataset(tmp_path / "data", spec, horizon_ns=horizon_ns)
    rows = np.flatnonzero(data.labels.valid)
    half = len(rows) // 2
    assert screen(Batch.of(data, rows[half:]), Batch.of(data, rows[:half]), SHAPE) == []
