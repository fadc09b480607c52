"""What became of each stop, from what lies in the logs."""

from __future__ import annotations

from gateway.control.stop_audit import StopRecord, ends_of, stop_records
from trading.events import CancelOrder, Command, ExecutionReport, ReportKind
from trading.risk.trading_state import TradingState

MS = 1_000_000
#: Long after 1970, as times are.
T0 = 1_700_000_000_000
KILLED, HALTED = TradingState.KILLED, TradingState.HALTED
FILL, REJECT = ReportKind.FILL, ReportKind.REJECT


def told(state, at_ms, reason="drill"):
    return Command("trading_state", state, reason, "desk", (T0 + at_ms) * MS)


def cancel(number, at_ms, state=KILLED):
    return CancelOrder(f"t-0-{number}", number, "A", 5.0, state, (T0 + at_ms) * MS, "desk", "s")


def ends(*reports):
    """Each as number, time, kind and what is left."""
    return ends_of(
        ((T0 + at_ms) * MS, ExecutionReport(f"t-0-{number}", number, 0, "A", kind, 0.0, 0.0, 0.0, left, 0))
        for number, at_ms, kind, left in reports
    )


def cancelled(number, at_ms):
    return number, at_ms, ReportKind.CANCEL, 0.0


def test_a_stop_with_its_orders_and_how_soon_they_had_ended():
    (found,) = stop_records(
        [told("active", 1), told("killed", 100), told("active", 900)],
        # One is asked again, by who rebuilt its partition.
        [cancel(1, 130), cancel(2, 112), cancel(3, 112), cancel(1, 400)],
        ends((1, 150, FILL, 2.0), cancelled(1, 190), (2, 140, FILL, 0.0), (3, 120, REJECT, 0.0), cancelled(9, 999)),
    )
    assert found == StopRecord((T0 + 100) * MS, KILLED, "drill", "desk", 3, 1, 1, 1, 0, 12.0, 90.0)


def test_what_no_report_has_ended_is_open_and_there_is_no_end():
    (found,) = stop_records([told("halted", 100)], [cancel(1, 110, HALTED)], ends((1, 150, FILL, 2.0)))
    assert (found.orders, found.open, found.asked_ms, found.ended_ms) == (1, 1, 10.0, None)


def test_a_stop_without_orders_is_told_too_and_a_word_nobody_knows_halts():
    found = stop_records([told("reducing", 1), told("stop!", 5), told("killed", 9)], [], {})
    assert [(r.state, r.orders, r.ended_ms) for r in found] == [(HALTED, 0, None), (KILLED, 0, None)]


def test_what_an_earlier_stop_asked_for_and_is_open_counts_for_the_later_ones_until_somebody_resumes():
    """A gateway asks for an order once, however often the desk is stopped meanwhile."""
    given = [told("halted", 100), told("killed", 200), told("killed", 300)]
    asked = [cancel(1, 110, HALTED), cancel(2, 110, HALTED), cancel(3, 210)]
    found = stop_records(given, asked, ends(cancelled(1, 130)))
    assert [(r.orders, r.open, r.ended_ms) for r in found] == [(2, 1, None), (2, 2, None), (2, 2, None)]
    found = stop_records([*given[:2], told("active", 250), given[2]], asked, ends(cancelled(1, 130)))
    assert [(r.orders, r.open) for r in found] == [(2, 1), (2, 2), (0, 0)]


def test_a_cancel_of_a_clock_that_is_behind_belongs_to_the_stop_of_its_state_after_it():
    found = stop_records(
        [told("halted", 100), told("killed", 5_000)], [cancel(1, 4_950)], ends(cancelled(1, 5_020))
    )
    assert [(r.state, r.orders, r.ended_ms) for r in found] == [(HALTED, 0, None), (KILLED, 1, 20.0)]


def test_a_stop_that_the_control_topic_never_heard_of_is_told_by_its_cancels_each_alone():
    hours = 5 * 3_600_000
    found = stop_records(
        [told("active", 100), told("active", 200_000)],
        [cancel(1, 500, HALTED), cancel(2, 510, HALTED), cancel(3, hours, HALTED)],
        ends(cancelled(1, 520), cancelled(2, 530), cancelled(3, hours + 7)),
    )
    assert [(r.at_ns, r.orders, r.by, r.ended_ms) for r in found] == [
        ((T0 + 500) * MS, 2, "", 30.0), ((T0 + hours) * MS, 1, "", 7.0),
    ]  # fmt: skip


def test_what_had_ended_before_the_stop_did_not_work_then():
    """A book learns of it with its next tick, and of a dead feed there is none."""
    (found,) = stop_records(
        [told("halted", 100_000)], [cancel(1, 100_010, HALTED), cancel(2, 100_010, HALTED)],
        ends((1, 40_000, FILL, 0.0), cancelled(2, 100_030)),
    )  # fmt: skip
    assert (found.orders, found.filled, found.cancelled, found.ended_ms) == (1, 0, 1, 30.0)
