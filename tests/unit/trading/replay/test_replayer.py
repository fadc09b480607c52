"""Every recorded source is decided again, byte for byte; what was changed is found, and told once."""

from __future__ import annotations

import re

import pytest
from msgspec import structs

from tests.challengers import FakeCanaries, FakeChallenger, canary
from tests.golden_log import CASES, located
from tests.paths import SHARED
from tests.recorded_desk import BAND, TOPIC, MemoryLog, limits, recorded
from trading.decision.wire import decode_decision
from trading.encoding import encode
from trading.errors import ConfigurationError
from trading.experiments.reading import parse
from trading.experiments.register import ExperimentHistory, ExperimentWord
from trading.intake import Admission
from trading.replay.comparison import same
from trading.replay.published import Published
from trading.replay.replayer import Replayer
from trading.risk.limits import LimitsFile
from trading.state.partition import PartitionState
from trading.state.recovery import Recovery

SMALL = "simulate:regimes?seed=3&ticks=4000&symbols=4"


EXPERIMENT = """\
version: 1
name: fresh
kind: canary
salt: salt-of-fresh
champion: {model: trading_decision, version: 7}
challengers:
  - {arm: newer, model: trading_decision_fused, version: 9}
primary: {effect: 0.2}
block: 1s
"""


def published_of(payloads):
    found = {}
    for payload in payloads:
        decision = decode_decision(payload)
        found[int(decision.decision_id.rpartition("-")[2])] = Published(payload, decision)
    return found


def replay(log, *, state=None, payloads=None, begin=0, messages=None):
    replayer = Replayer(TOPIC, log.partition, state or PartitionState(limits()), log, BAND)
    told = published_of(log.published if payloads is None else payloads)
    ticks = [m for m in (log.messages if messages is None else messages) if m.offset >= begin]
    return list(replayer.run(ticks, {o: p for o, p in told.items() if o >= begin}))


@pytest.mark.parametrize("name", CASES)
def test_every_recorded_source_replays_byte_for_byte(name):
    source, limit, assumed = CASES[name]
    if "binance" in source and not (SHARED / source.partition(":")[2]).is_file():
        pytest.skip("the recorded market data is not here: ../shared/data")
    logs = recorded(located(source, SHARED), limit // 2, assumed=assumed)
    count = 0
    for log in logs.values():
        replayed = replay(log)
        assert len(replayed) == len(log.published)
        assert [one for one in replayed if one.difference is not None][:3] == []
        count += sum(b'"verdict":{' in payload for payload in log.published)
    assert count > 500


def test_which_arm_a_unit_was_given_to_is_found_anew():
    text = parse(EXPERIMENT)
    history = ExperimentHistory()
    words = [
        ExperimentWord("create", "fresh", text), ExperimentWord("start", "fresh"), ExperimentWord("stop", "fresh"),
        ExperimentWord("start", "fresh"), ExperimentWord("ramp", "fresh", share=0.5, from_block=0),
        ExperimentWord("ramp", "fresh", share=1.0, from_block=10**9),
    ]  # fmt: skip
    for offset, word in enumerate(words, 1):
        history.take(offset, encode(word).decode(), "me", "because", 0)
    # What the gateway divides by, of the command at offset 5.
    one = canary(FakeChallenger(), block_s=1)
    logs = recorded(SMALL, 4000, assumed=True, canaries=FakeCanaries(one))
    log = max(logs.values(), key=lambda found: len(found.published))
    log.experiments = history
    assigned = [decode_decision(payload).assigned for payload in log.published]
    assert 0.3 < assigned.count("newer") / len(assigned) < 0.7
    assert [r.difference for r in replay(log) if r.difference is not None] == []
    # One that was given to another arm than the log says, and one that names a command that gave it to none.
    place = assigned.index("newer", 100)
    for old, new in ((b'"assigned":"newer"', b'"assigned":"champion"'), (b'"fresh@5"', b'"fresh@2"')):
        changed = list(log.published)
        changed[place] = changed[place].replace(old, new)
        assert changed[place] != log.published[place]
        found = [r for r in replay(log, payloads=changed) if r.difference is not None]
        assert [one.difference.field for one in found] == ["assigned"]


@pytest.fixture(scope="module")
def log():
    logs = recorded(SMALL, 4000, assumed=False)
    return max(logs.values(), key=lambda one: len(one.published))


def test_a_state_that_was_advanced_decides_as_one_that_decided(log):
    at = len(log.published) // 2
    told = published_of(log.published)
    places = sorted(told)
    replayer = Replayer(TOPIC, log.partition, PartitionState(limits()), log, BAND)
    before = [m for m in log.messages if m.offset < places[at]]
    for begin in range(0, len(before), 333):
        part = before[begin : begin + 333]
        replayer.advance(part, {m.offset: told[m.offset].payload for m in part if m.offset in told})
    after = [m for m in log.messages if m.offset >= places[at]]
    replayed = list(replayer.run(after, told))
    assert len(replayed) == len(places) - at
    assert all(one.difference is None for one in replayed)


def test_one_decision_replays_from_a_state_that_was_rebuilt_before_it(log):
    places = [int(decode_decision(p).decision_id.rpartition("-")[2]) for p in log.published]
    for at in (0, 1, len(places) // 2, len(places) - 1):
        before = MemoryLog(
            log.partition,
            [m for m in log.messages if m.offset < places[at]],
            log.published[:at],
            log.reported,
            log.told,
        )
        recovery = Recovery(before, Admission(frozenset(), 64), limits())
        recovery.read()
        state = recovery.replay().state
        (replayed,) = replay(log, state=state, payloads=[log.published[at]], begin=places[at])
        assert replayed.difference is None


@pytest.mark.parametrize(
    ("field", "pattern", "changed", "told"),
    [
        ("features", rb'"features":\[[^,]*', b'"features":[0.123', "features"),
        ("reason", rb'"reason":"within_band"', b'"reason":"warming_up"', "reason"),
        ("position", rb'"position_before":[^,]*', b'"position_before":12.5', "position_before"),
        ("limits", rb'"limits_version":"[0-9a-f]*"', b'"limits_version":"000000000000"', "limits_version"),
        ("verdict", rb'"outcome":"accept"', b'"outcome":"clip"', "verdict"),
        ("price", rb'"mid_price":[^,]*', b'"mid_price":1.25', "mid_price"),
        ("target", rb'"target_position":-?0\.[^,]*', b'"target_position":0.987654321', None),
        ("symbol", rb'"symbol":"[^"]*"', b'"symbol":"OTHER"', "symbol"),
        ("model", rb'"model_version":"7"', b'"model_version":"8"', None),
        ("trace", rb'"trace_id":"[^"]*"', b'"trace_id":"00"', "trace_id"),
    ],
)
def test_what_was_changed_is_found_in_its_field_and_told_once(log, field, pattern, changed, told):
    """A change of what the model said is no difference by itself: what follows from it is."""
    at = next(k for k, p in enumerate(log.published) if k > 300 and re.search(pattern, p))
    payloads = list(log.published)
    payloads[at] = re.sub(pattern, changed, payloads[at], count=1)
    assert payloads[at] != log.published[at]
    found = [one for one in replay(log, payloads=payloads) if one.difference is not None]
    if field == "model":
        assert found == []
        return
    assert decode_decision(payloads[at]).decision_id in {one.decision_id for one in found}
    first = next(one for one in found if one.decision_id == decode_decision(payloads[at]).decision_id)
    if told is not None:
        assert first.difference.field == told
        assert len(found) == 1
    assert first.difference.why


def test_an_order_of_another_size_is_found_and_the_book_goes_on_as_published(log):
    at = next(k for k, p in enumerate(log.published) if k > 300 and b'"action":"buy"' in p)
    payloads = list(log.published)
    payloads[at] = re.sub(rb'"quantity":[^,]*', b'"quantity":1.0', payloads[at], count=1)
    found = [one for one in replay(log, payloads=payloads) if one.difference is not None]
    assert found[0].difference.field == "quantity"
    # What it makes of the positions after it differs too, and is told as that.
    assert {one.difference.field for one in found[1:]} <= {
        "position_before",
        "position_after",
        "verdict",
        "quantity",
    }


def test_a_tick_that_is_missing_changes_the_features_after_it(log):
    gone = log.messages[len(log.messages) // 2].offset
    messages = [m for m in log.messages if m.offset != gone]
    found = [one for one in replay(log, messages=messages) if one.difference is not None]
    assert found
    assert found[0].difference.field in {"features", "mid_price"}


def test_a_message_that_is_no_tick_is_told(log):
    messages = [
        structs.replace(m, payload=b"{}") if m.offset == log.messages[100].offset else m for m in log.messages
    ]
    found = [one for one in replay(log, messages=messages) if one.difference is not None]
    assert found[0].difference.field == "tick"


def test_decisions_of_before_the_quota_was_recorded_replay_by_what_they_were_judged_by(log):
    old = [re.sub(rb',"desk_quota":[^,]*', b"", payload) for payload in log.published]
    assert all(b"desk_quota" not in payload for payload in old)
    wrong = [one for one in replay(log, payloads=old) if one.difference is not None]
    assert len(wrong) < len(old) / 50
    assert same(old[5], log.published[5])


def test_what_would_have_been_decided_otherwise(log):
    at = next(
        k for k, p in enumerate(log.published) if k > 300 and b'"outcome":"accept"' in p and b'"action":"buy"' in p
    )
    told = published_of(log.published)
    place = sorted(told)[at]
    message = next(m for m in log.messages if m.offset == place)

    def before():
        replayer = Replayer(TOPIC, log.partition, PartitionState(limits()), log, BAND)
        replayer.advance([m for m in log.messages if m.offset < place], {o: p.payload for o, p in told.items()})
        return replayer

    recorded = told[place].decision
    assert before().otherwise(message, told[place], None, None).quantity == recorded.quantity
    strict = limits().like(LimitsFile(defaults={"max_order_notional": 0.01, "lot": 0.0001}))
    denied = before().otherwise(message, told[place], strict, None)
    assert (denied.action.value, denied.reason.value) == ("hold", "denied")
    assert "order_notional" in denied.verdict.broken
    assert denied.limits_version == strict.version
    other = structs.replace(recorded, target_position=-1.0, model_version="8")
    sold = before().otherwise(message, told[place], None, other)
    assert sold.quantity < 0 < recorded.quantity
    assert sold.model_version == "8"
    with pytest.raises(ConfigurationError, match="no tick"):
        before().otherwise(structs.replace(message, payload=b"{}"), told[place], None, None)
