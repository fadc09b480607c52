"""Every input of the live path as a function of bytes that must never raise.

The promise of each: nothing dies, nothing is admitted that cannot be written and read again, and every refusal has a
reason. `examples` of each are where a fuzzer begins.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from connectors.kafka.messages import told_ns
from exporters.errors import ExportError
from exporters.release.journal import Journal
from exporters.repository.repository import ModelRepository
from gateway.control.steering import SteeringLog
from services.forensics.kinds import KINDS, row_of
from services.forensics.records import Record, leaf_of
from services.paper_broker.broker import FillModel, PaperAnswers, cancelled
from services.paper_broker.stops import Stops
from trading.control import InForce
from trading.decision import wire
from trading.encoding import Records, encode
from trading.errors import BadRecord, ConfigurationError
from trading.events import CancelOrder, Command, ExecutionReport, NewOrder, ReportKind, read_order
from trading.intake import Admission, decode_ticks
from trading.market import Tick, TickBatch
from trading.portfolio.book import Book
from trading.risk import limits_file
from trading.risk.limits import LimitSet, LimitsFile
from trading.risk.trading_state import TradingState
from trading.state import codec
from trading.state.applied import steers
from trading.state.partition import PartitionState
from trading.trace import TraceIds

NOW_NS = 1_700_000_000_000_000_000
_reports = Records(ExecutionReport)
LIMITS = LimitSet(LimitsFile(defaults={"max_value_at_risk": 1e9, "max_drawdown": 0.9}))


class Target(Struct, frozen=True):
    """A function of bytes, and where to begin."""

    run: Callable[[bytes], None]
    examples: list[bytes]


def reasoned(error: Exception) -> None:
    """A refusal says why."""
    assert str(error)


def ticks(data: bytes) -> None:
    """Bytes to a tick or a reason, alone and beside others; what is a tick is decided on, and read again."""
    pieces = [*data.split(b"\0"), data]
    decoded = decode_ticks(pieces)
    assert decoded == [decode_ticks([piece])[0] for piece in pieces]
    found = Admission(max_symbols=3).admit_decoded(decoded, [NOW_NS] * len(pieces), {"A"})
    good = [one for one in found if isinstance(one, Tick)]
    assert all(reason for reason in found if isinstance(reason, str))
    for tick in good:
        assert decode_ticks([encode(tick)]) == [tick]
        told = f'{{"decision_id":"market.ticks-0-1","symbol":"{tick.symbol}"}}'
        assert json.loads(told)["symbol"] == tick.symbol
    if good:
        state = PartitionState(LIMITS)
        state.replay(good, [NOW_NS] * len(good), range(len(good)), {}, assumed=True)
        assert np.isfinite(state.observe(TickBatch.from_ticks(good)).values).all()


def control(data: bytes) -> None:
    """Records of the control topic: whatever they are, there is a state, and limits or a reason."""
    log, stops = InForce(), Stops()
    steering = SteeringLog(LIMITS, lambda _start, _stop: [])
    for offset, payload in enumerate(
        [encode(Command("trading_state", "halted", "", "", 1)), *data.split(b"\0"), data]
    ):
        command = log.take(offset, payload)
        stops.take(offset, payload)
        if command is not None and steers(command):
            steering.add(offset, command)
    assert log.state() is not None
    try:
        log.limits()
    except ConfigurationError as error:
        reasoned(error)
        assert log.state().state.value != "active"
    for command, limits in steering.between(0, 1_000_000):
        if limits is not None:
            Book(LIMITS).set_limits(limits)
            assert LimitSet.decode(limits.encode()).version == limits.version
        assert encode(command)


def fills(data: bytes) -> None:
    """Reports of the broker: the book takes them or leaves them, and can be kept and loaded."""
    book = Book(LIMITS)
    book.observe("A", NOW_NS, 100.0)
    for number in range(3):
        book.accept("A", 5.0, 100.0, number, assumed=False)
    reports = []
    for payload in data.split(b"\0"):
        try:
            report = _reports.read(payload)
        except BadRecord as error:
            reasoned(error)
            continue
        assert _reports.read(encode(report)) == report
        reports.append(report)
    book.apply(reports)
    book.apply(reports)
    dump = book.dump()
    assert Book.load(dump, LIMITS).dump() == dump
    assert encode(book.summary())


def orders(data: bytes) -> None:
    """Orders and cancels as the broker takes them: every order has an answer that can be written and read."""
    try:
        asked = read_order(data)
    except BadRecord as error:
        reasoned(error)
        return
    if isinstance(asked, CancelOrder):
        assert read_order(encode(asked)) == asked
        return
    stops = Stops()
    for due in PaperAnswers(FillModel()).fresh(asked, NOW_NS, stops.refusal(asked)):
        assert _reports.read(encode(due.report)) == due.report
        ended = cancelled(due.report, NOW_NS, "cancelled: the desk is killed")
        assert _reports.read(encode(ended)) == ended


def limits(data: bytes) -> None:
    """A limits file: refused with a line, or limits that hold for every symbol and every order."""
    try:
        file = limits_file.parse(data.decode("utf-8", "surrogateescape"))
        found = LimitSet(file).whole()
    except ConfigurationError as error:
        reasoned(error)
        return
    assert LimitSet.decode(found.encode()).version == found.version
    for symbol in ("A", *file.symbols):
        Book(found).observe(symbol[:32], NOW_NS, 100.0)


def snapshots(data: bytes) -> None:
    """A snapshot, cut short or changed, with a digest that fits: a state, or a reason."""
    for payload in (data, codec.digest(data) + data):
        try:
            found = codec.decode_snapshot(payload, "log", 0)
            state = PartitionState.of(found)
        except (codec.UnusableSnapshot, ConfigurationError, BadRecord, ValueError) as error:
            reasoned(error)
            continue
        state.book.observe("A", NOW_NS, 100.0)
        codec.encode_snapshot(found, "log")
    codec.newest_whole([data, *data.split(b"\0")])


def decisions(data: bytes) -> None:
    """Published decisions as everybody reads them: values, or BadRecord and nothing else."""
    prefix = wire.id_prefix("market.ticks", 0)
    for read in (
        wire.decode_decision, wire.decode_order, wire.decision_id,
        lambda payload: wire.offset_in(payload, prefix), lambda payload: wire.applied_in(wire.applied_tail(payload)),
    ):  # fmt: skip
        try:
            read(data)
        except BadRecord as error:
            reasoned(error)
    wire.place_of(data)
    wire.is_hold(data)
    record = Record(0, 1, NOW_NS // 1_000_000, data[:9], data, data[9:])
    for kind in KINDS:
        # On the trail there is nothing that has no row.
        row = row_of(kind, 1, 0, record, leaf_of(record))
        assert row[7] == data
        assert all("\0" not in one for one in row if isinstance(one, str))


def headers(data: bytes) -> None:
    """Headers of a tick: a time that is never later than the broker's, a trace or none."""
    assert told_ns(data, NOW_NS) <= NOW_NS + 1_000_000
    TraceIds("market.ticks").of(0, 1, data)


def releases(data: bytes) -> None:
    """A lineage and a journal of releases: read, or refused in words; no name in them leads anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        repository = ModelRepository(Path(folder) / "models")
        version = repository.root / "m" / "1"
        version.mkdir(parents=True)
        (version / "lineage.json").write_bytes(data)
        journal = Path(folder) / "journal.jsonl"
        journal.write_bytes(data + b"\n")
        for read in (
            lambda: repository.verified_lineage("m", 1),
            lambda: Journal(journal).transactions(),
            lambda: repository.serving(data[:40].decode("latin-1")),
        ):
            try:
                read()
            except ExportError as error:
                reasoned(error)
        assert {p.name for p in Path(folder).iterdir()} == {"models", "journal.jsonl"}


def example_snapshot() -> bytes:
    """What a partition of two symbols leaves."""
    state = PartitionState(LIMITS)
    some = [Tick(symbol, NOW_NS + k, 100.0 + k, 101.0 + k) for k in range(4) for symbol in ("A", "B")]
    state.replay(some, [NOW_NS] * 8, range(8), {2: (1.0, 100.0)}, assumed=True)
    payload = codec.encode_snapshot(state.snapshot(0, 8, 8, state.dump_features()), "log")
    return payload[codec.DIGEST_BYTES :]


TICK = b'{"symbol":"A","event_time_ns":%d,"bid":99.5,"ask":100.5,"bid_size":3,"ask_size":1e3,"last":100}' % NOW_NS
REPORT = ExecutionReport("market.ticks-0-1", 1, 0, "A", ReportKind.FILL, 2.0, 100.5, 0.01, 3.0, NOW_NS)
ORDER = NewOrder("market.ticks-0-1", 1, "A", 5.0, 100.0, NOW_NS, NOW_NS, "desk", "s", "", NOW_NS + 10**9, 4)
CANCEL = CancelOrder("market.ticks-0-1", 1, "A", 5.0, TradingState.KILLED, NOW_NS, "desk", "s")
FILE = LimitsFile(defaults={"max_drawdown": 0.1}, symbols={"A": {"lot": 0.5}}, rates={"EUR": 1.1})
YAML = b"""version: 1
currency: USD
rates: {EUR: 1.1}
session: {timezone: Europe/Berlin, opens: "09:00", closes: "17:30", rolls: "00:00", holidays: ["2024-12-25"]}
defaults: {max_drawdown: 0.1, max_order_notional: null, cooldown_scope: side, max_orders: 5}
symbols: {A: {lot: 0.5, currency: EUR, restricted: true}}
"""
LINEAGE = (
    b'{"contract":{"name":"m","backend":"onnxruntime","inputs":[{"name":"x","dims":[4],"dtype":"FP32"}],"outputs":[]},'
    b'"model":"file:x","run_ids":{},"source_sha256":"0","precision":"fp32","target":"t","parity_max_abs":0.0,'
    b'"parity_flip_rate":0.0,"files":{"model.onnx":"0"}}'
)
ENTRY = (
    b'{"id":"a","step":"begun","action":"release","model":"m","version":1,"time":"t","user":"u","changes":[{"name":"m",'
    b'"before":{"versions":[]},"after":{"versions":[1]}}]}'
)
DECISION = (
    b'{"decision_id":"market.ticks-0-1","symbol":"A","event_time_ns":1,"action":"buy","reason":"target","quantity":1.0,'
    b'"reference_price":1.0,"fills_to":-1,"control_to":0}'
)

TARGETS: dict[str, Target] = {
    "ticks": Target(
        ticks, [TICK, TICK + b"\0" + TICK.replace(b'"A"', b'"B"'), b'{"symbol":"A\\n","event_time_ns":1}']
    ),
    "control": Target(
        control,
        [
            encode(Command("limits", encode(FILE).decode(), "r", "b", 1)),
            encode(Command("trading_state", "active", "r", "b", 1))
            + b"\0"
            + encode(Command("reset", "drawdown", "r", "b", 1)),
            b'{"kind":"rebalance","value":1}',
        ],
    ),
    "fills": Target(
        fills, [encode(REPORT), encode(REPORT) + b"\0" + encode(msgspec.structs.replace(REPORT, number=-1))]
    ),
    "orders": Target(orders, [encode(ORDER), encode(CANCEL)]),
    "limits": Target(limits, [YAML, encode(FILE)]),
    "snapshots": Target(snapshots, [example_snapshot()]),
    "decisions": Target(decisions, [DECISION]),
    "headers": Target(
        headers, [b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"1700000000000000000"]
    ),
    "releases": Target(releases, [LINEAGE, ENTRY]),
}
