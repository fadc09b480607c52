"""What became of each stop, from what lies in the logs."""

from __future__ import annotations

from gateway.control.stop_audit import StopRecord, stop_records
from trading.events import CancelOrder, Command, ExecutionReport, ReportKind
from trading.risk.trading_state import TradingState

MS = 1_000_000
KILLED, HALTED = TradingState.KILLED, TradingState.HALTED


def told(state, at_ms, reason="drill"):
    return Command("trading_state", state, reason, "desk", at_ms * MS)


def cancel(number, at_ms, state=KILLED):
    return CancelOrder(f"t-0-{number}", number, "A", 5.0, state, at_ms * MS, "desk", "s")


def report(number, at_ms, kind=ReportKind.CANCEL, left=0.0):
    return ExecutionReport(f"t-0-{number}", number, 0, "A", kind, 0.0, 0.0, 0.0, left, at_ms * MS)


def test_a_stop_with_its_orders_and_how_soon_they_had_ended():
    (found,) = stop_records(
        [told("active", 1), told("killed", 100), told("active", 900)],
        # One is asked again, by who rebuilt its partition.
        [cancel(1, 130), cancel(2, 112), cancel(3, 112), cancel(1, 400)],
        [
            report(1, 150, ReportKind.FILL, left=2.0), report(1, 190), report(2, 140, ReportKind.FILL),
            report(3, 120, ReportKind.REJECT), report(9, 999),
        ],
    )  # fmt: skip
    assert found == StopRecord(100 * MS, KILLED, "drill", "desk", 3, 1, 1, 1, 0, 12.0, 90.0)


def test_what_no_report_has_ended_is_open_and_there_is_no_end():
    (found,) = stop_records(
        [told("halted", 100)], [cancel(1, 110, HALTED)], [report(1, 150, ReportKind.FILL, left=2.0)]
    )
    assert (found.orders, found.open, found.asked_ms, found.ended_ms) == (1, 1, 10.0, None)


def test_a_stop_without_orders_is_told_too_and_a_word_nobody_knows_halts():
    found = stop_records([told("reducing", 1), told("stop!", 5), told("killed", 9)], [], [])
    assert [(r.state, r.orders, r.ended_ms) for r in found] == [(HALTED, 0, None), (KILLED, 0, None)]


def test_each_cancel_belongs_to_the_newest_stop_before_it():
    found = stop_records(
        [told("halted", 100), told("killed", 200)],
        [cancel(1, 110, HALTED), cancel(1, 210), cancel(2, 210)],
        [report(1, 215), report(2, 230)],
    )
    assert [(r.state, r.orders, r.ended_ms) for r in found] == [(HALTED, 1, 115.0), (KILLED, 2, 30.0)]


def test_a_stop_that_the_control_topic_never_heard_of_is_told_by_its_cancels():
    (found,) = stop_records([told("active", 100)], [cancel(1, 500, HALTED)], [report(1, 520)])
    assert (found.at_ns, found.state, found.by, found.orders, found.ended_ms) == (500 * MS, HALTED, "", 1, 20.0)
