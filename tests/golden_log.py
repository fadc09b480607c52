"""A golden log: what the gateway makes of a fixed input, digested, so that a change of code is a change of bytes.

The input is real ticks with everything that may come beside them: bad payloads, trace headers, rows that the
model answers wrongly, failures of the model, commands, limits, another trading state, a broker's fills. No tick
is held for its deadline, and clocks stand where the input says. What is digested are the published bytes but
for what a wall clock writes (`stages`, `decided_at_ns`), and snapshots.

`python -m tests.golden_log` writes the golden file anew: only where a change of decisions is meant.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gateway.partitions import PartitionStates
from gateway.pipeline import Pipeline, PipelineSettings
from gateway.ports import Ports, RawBatch, RawSlice
from tests.fakes import FakeClock, FakeMetrics, FakeReservations, FakeSink, FakeSnapshots, FakeSource, FakeStates
from tests.paths import GOLDEN, SHARED
from trading.arrays import Float32Array
from trading.decision.policy import DecisionPolicy
from trading.encoding import encode
from trading.errors import InvalidPrediction, PredictorTimeout
from trading.events import Command, ExecutionReport, NewOrder, PartitionEvents, ReportKind
from trading.history import open_source
from trading.intake import Admission
from trading.models.prediction import Prediction
from trading.risk.limits import LimitSet, LimitsFile
from trading.risk.trading_state import TradingState
from trading.state.codec import decode_snapshot, encode_snapshot
from trading.state.partition import PartitionState

DECISIONS = GOLDEN / "decisions.json"
PARTITIONS = 3
DELAY_NS = 3_000_000
BLOCK = 2_000
NO_DEADLINE = 2**61
#: What a wall clock writes.
STAGES = re.compile(rb'"stages":\{[^}]*\},"decided_at_ns":\d+')
FILE = LimitsFile(
    rates={"EUR": 1.1},
    defaults={
        "capital": 3e6, "max_orders": 900, "max_symbol_orders": 40, "max_daily_loss": 150_000.0,
        "max_net_notional": 750_000.0, "max_value_at_risk": 60_000.0, "cooldown_losses": 6, "lot": 0.001,
        "price_increment": 0.0, "max_desk_notional": 5e6, "max_staleness_s": 1e6,
    },
    symbols={"AAPL": {"currency": "EUR", "max_concentration": 0.5}, "KO": {"long_only": True}},
)  # fmt: skip
OTHER = LimitsFile(
    rates={"EUR": 1.2},
    defaults={"capital": 2.5e6, "max_drawdown": 0.5, "max_order_notional": 20_000.0, "lot": 0.01,
              "max_staleness_s": 1e6, "var_method": "historical", "max_value_at_risk": 50_000.0},
)  # fmt: skip


class Model:
    """A function of the features in plain arithmetic, so that every machine has the same bits."""

    model_name = "trading_decision"

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        self.calls += 1
        if self.calls % 41 == 0:
            raise PredictorTimeout("golden")
        if self.calls % 67 == 0:
            raise InvalidPrediction("golden")
        n, f = len(features), features
        push = np.clip(f[:, 7] * np.float32(8.0) + f[:, 31] * np.float32(0.125) + f[:, 19], -1.0, 1.0).astype(
            np.float32
        )
        half = np.float32(0.5) + np.float32(0.25) * push
        regimes = np.stack([half * np.float32(0.5), np.float32(1.0) - half, half * np.float32(0.5)], axis=1)
        signals = np.stack([push * np.float32(k / 8.0) for k in range(1, 8)], axis=1)
        weights = np.full((n, 7), np.float32(1.0 / 7.0), np.float32)
        valid = np.abs(f[:, 19]) < np.float32(0.98)
        return Prediction(regimes, signals, weights, push.astype(np.float64), valid, "7")

    def close(self) -> None:
        """Nothing is open."""


class Broker:
    """Fills the half of each order at once, the rest a batch later, now and then rejects or repeats."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[ExecutionReport]] = {}
        self.later: dict[int, list[ExecutionReport]] = {}
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        self.commands: list[tuple[Command, LimitSet | None]] = []

    def take(self, partition: int, fills_to: int, control_to: int) -> PartitionEvents | None:
        reports = self.waiting.pop(partition, [])
        self.waiting[partition] = self.later.pop(partition, [])
        self.ends[partition] += len(reports)
        commands = self.commands[control_to:]
        if not reports and not commands:
            return None
        return PartitionEvents(commands, len(self.commands), reports, self.ends[partition])

    def order(self, partition: int, payload: bytes) -> None:
        order = msgspec.json.decode(payload, type=NewOrder)
        now, later = self.waiting.setdefault(partition, []), self.later.setdefault(partition, [])
        half = order.quantity * 0.5
        kinds: tuple[ReportKind, ...] = (
            (ReportKind.REJECT,) if order.number % 29 == 0 else (ReportKind.FILL, ReportKind.FILL)
        )
        if order.number % 31 == 0 and len(kinds) > 1:
            kinds = (ReportKind.FILL, ReportKind.CANCEL)
        for k, kind in enumerate(kinds):
            quantity = half if kind is ReportKind.FILL else 0.0
            price = order.price * (1.0 + 1e-4) if quantity > 0.0 else order.price * (1.0 - 1e-4)
            report = ExecutionReport(
                order.order_id, order.number, k, order.symbol, kind, quantity, price if quantity else 0.0,
                abs(quantity) * 1e-3, 0.0, order.sent_ns, "" if quantity else "golden",
            )  # fmt: skip
            (now if k == 0 else later).append(report)
            if order.number % 17 == 0:
                (now if k == 0 else later).append(report)


def raw_batches(source: str, limit: int, clock: FakeClock, seed: int) -> Iterator[RawBatch]:
    """The source as polls of several sizes, a slice a partition."""
    chance = random.Random(seed)
    records = open_source(source).records()
    ends = dict.fromkeys(range(PARTITIONS), 0)
    left = limit
    while ticks := [r.tick for r in islice(records, min(left, chance.choice((1, 7, 40, 200, 400))))]:
        left -= len(ticks)
        columns: dict[int, tuple[list[Any], ...]] = {}
        for tick in ticks:
            partition = zlib.crc32(tick.symbol.encode()) % PARTITIONS
            column = columns.setdefault(partition, ([], [], [], [], []))
            payloads = [encode(tick)]
            if chance.random() < 0.002:
                payloads.append(b'{"symbol":"' + tick.symbol.encode() + b'","event_time_ns":-1}')
            for payload in payloads:
                column[0].append(ends[partition])
                ends[partition] += 1 if chance.random() < 0.99 else 2
                column[1].append(tick.event_time_ns + DELAY_NS)
                column[2].append(tick.symbol.encode())
                column[3].append(payload)
                trace = f"00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-01".encode()
                column[4].append(trace if chance.random() < 0.05 else None)
        now_ns = max(max(column[1]) for column in columns.values())
        clock.advance((now_ns - clock.now_ns()) / 1e6)
        yield RawBatch([RawSlice(p, *column, column[1]) for p, column in sorted(columns.items())], now_ns)


def records(source: str, limit: int, *, assumed: bool) -> Iterator[tuple[int, str, bytes]]:
    """Partition, stream and bytes of everything that is published, in order."""
    clock, broker, states, snapshots = FakeClock(0), Broker(), FakeStates(), FakeSnapshots()
    limits = LimitSet(FILE, books=PARTITIONS)
    state = PartitionStates(lambda: PartitionState(limits))
    ports = Ports(
        FakeSource([]), Model(), FakeSink(), snapshots, states, clock, FakeMetrics(),
        events=broker, reservations=FakeReservations(900_000.0),
    )  # fmt: skip
    settings = PipelineSettings(NO_DEADLINE, 0, 0, 1024, 16, 0.0, "champion")
    pipeline = Pipeline(ports, state, DecisionPolicy(limits, 0.05, assumed), Admission(frozenset(), 64), settings)
    for number, raw in enumerate(raw_batches(source, limit, clock, seed=5)):
        states.state = TradingState.REDUCING if number % 50 in range(40, 44) else TradingState.ACTIVE
        if number == 60:
            broker.commands.append((Command("limits", "", "golden", "golden", 0), limits.like(OTHER).whole()))
        if number in {90, 150}:
            broker.commands += [(Command("reset", what, "golden", "golden", 0), None)
                                for what in ("drawdown", "daily_loss", "cooldown", "repeated_execution")]  # fmt: skip
        pending = pipeline.decide(raw)
        for partition, part in pending.parts.items():
            for stream, key, value in part.records:
                if stream.value == "orders":
                    broker.order(partition, value)
                yield partition, stream.value, (key or b"") + b"\0" + STAGES.sub(b"", value)
        if number % 37 == 36:
            for snapshot in pending.snapshots:
                payload = encode_snapshot(snapshot, "golden")
                yield snapshot.partition, "snapshots", payload
                again = decode_snapshot(payload, "golden", snapshot.partition)
                state.put(snapshot.partition, PartitionState.of(again))


class Digest(msgspec.Struct):
    """What is kept of a log.

    Attributes:
        counts: records by stream.
        blocks: a digest of each `BLOCK` records but snapshots, so that the first difference is found.
        snapshots: a digest of all snapshots; another layout of the book changes it, and nothing else.
        samples: some records as text, to look at.
    """

    counts: dict[str, int] = {}
    blocks: list[str] = []
    snapshots: str = ""
    samples: list[str] = []


def digest(source: str, limit: int, *, assumed: bool) -> Digest:
    """Run it and keep what a comparison needs."""
    made = Digest({}, [], "", [])
    block, snapshots = hashlib.blake2b(digest_size=8), hashlib.blake2b(digest_size=8)
    count = 0
    for partition, stream, value in records(source, limit, assumed=assumed):
        made.counts[stream] = made.counts.get(stream, 0) + 1
        told = f"{partition} {stream} {len(value)} ".encode() + value
        if stream == "snapshots":
            snapshots.update(told)
            continue
        count += 1
        block.update(told)
        if count % BLOCK == 0:
            made.blocks.append(block.hexdigest())
            block = hashlib.blake2b(digest_size=8)
        if count % 9_973 == 0:
            made.samples.append(value.decode())
    made.blocks.append(block.hexdigest())
    made.snapshots = snapshots.hexdigest()
    return made


CASES = {
    "sp500, assumed fills": ("skfolio:sp500", 40_000, True),
    "sp500, broker": ("skfolio:sp500", 40_000, False),
    "binance, assumed fills": ("binance:binance_usdm_btcusdt_20240808.gz", 60_000, True),
    "binance, broker": ("binance:binance_usdm_ethusdt_20240808.gz", 40_000, False),
}


def located(source: str, folder: Path) -> str:
    """The source with its file in the data folder."""
    kind, _, name = source.partition(":")
    return f"{kind}:{folder / name}" if kind == "binance" else source


def main(folder: Path) -> None:
    """Write the golden file."""
    found = {
        name: msgspec.to_builtins(digest(located(source, folder), limit, assumed=assumed))
        for name, (source, limit, assumed) in CASES.items()
    }
    DECISIONS.write_text(json.dumps(found, indent=1) + "\n")
    for name, case in found.items():
        sys.stdout.write(f"{name}: {case['counts']}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED)
