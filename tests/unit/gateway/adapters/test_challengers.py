"""Challengers are found where they are served, asked behind a breaker, and let go of when they are not wanted."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.adapters.challengers import FAILURES, Challengers, Wanted
from gateway.breaker import BreakerState
from tests.challengers import FakeChallenger
from trading.encoding import encode
from trading.errors import ContractMismatch, PredictorTimeout, PredictorUnavailable, ServiceUnavailable
from trading.experiments.reading import parse
from trading.experiments.register import ExperimentRegister, ExperimentWord
from trading.models.copies import challenger_name

TEXT = """\
version: 1
name: one
kind: canary
salt: salt-of-one
champion: {model: trading_decision_fused, version: 3}
challengers:
  - {arm: fresh, model: trading_decision_fused, version: 4}
  - {arm: other, model: trading_decision_other, version: 1}
primary: {effect: 0.2}
"""
COPY = challenger_name("trading_decision_fused", 4, "one")
PROBE = np.zeros((4, 32), np.float32)


class Tritons:
    """What is served where: (address, name, version) -> the challenger, or why not."""

    def __init__(self):
        self.served, self.asked = {}, []

    def connect(self, address, name, version):
        self.asked.append((address, name, version))
        found = self.served.get((address, name, version), ContractMismatch(f"{address} serves no {name}"))
        if isinstance(found, Exception):
            raise found
        return found


class Desk:
    """A register, and what finds its challengers."""

    def __init__(self):
        self.register, self.tritons, self.offset = ExperimentRegister(), Tritons(), 0
        self.found = Challengers(["a:1", "b:1"], lambda: self.register.experiments, PROBE, self.tritons.connect)

    def say(self, act, **given):
        self.offset += 1
        word = ExperimentWord(act, "one", **given)
        assert self.register.take(self.offset, encode(word).decode(), "me", "because", 0) == ""

    def models(self):
        (one,) = self.found.running()
        return one.models

    def look_again(self):
        self.found._lacking = {one: (why, 0.0) for one, (why, _) in self.found._lacking.items()}
        self.found.look()


@pytest.fixture
def desk():
    made = Desk()
    made.say("create", definition=parse(TEXT))
    made.say("start")
    return made


def test_challengers_are_looked_for_before_they_have_a_share_and_asked_nothing(desk):
    desk.tritons.served["a:1", COPY, "4"] = FakeChallenger()
    desk.found.look()
    assert len(desk.tritons.asked) > 0
    assert desk.found.running() == ()
    desk.say("ramp", share=0.5, from_block=3)
    # There it is, with the command.
    assert desk.models()[0].inner is desk.tritons.served["a:1", COPY, "4"]


def test_a_model_that_answers_otherwise_than_the_gateways_is_never_connected_to(desk):
    found = Challengers(["a:1"], lambda: desk.register.experiments, PROBE, desk.tritons.connect)
    for name in ("strategy_signals", "regime_detection_fused", "anything"):
        assert "gateway" in found._found(Wanted("one", name, 1))
    assert desk.tritons.asked == []


def test_what_a_challenger_raises_is_no_end_of_a_gateway(desk):
    desk.say("ramp", share=0.5, from_block=3)
    desk.tritons.served["a:1", COPY, "4"] = FakeChallenger(late=ValueError("not enough values to unpack"))
    desk.found.look()
    guarded = desk.models()[0]
    for _ in range(FAILURES):
        with pytest.raises(ValueError, match="not enough values"):
            guarded.begin(PROBE).result(1.0)
    assert guarded.breaker.state is BreakerState.OPEN


def test_a_challenger_is_found_by_its_own_name_or_its_copys(desk):
    desk.say("ramp", share=0.5, from_block=3)
    assert desk.models() == (None, None)
    desk.tritons.served["b:1", COPY, "4"] = copy = FakeChallenger()
    desk.tritons.served["a:1", "trading_decision_other", "1"] = own = FakeChallenger()
    desk.found.look()
    assert [one.inner for one in desk.models()] == [copy, own]
    (one,) = desk.found.running()
    assert (one.champion, [arm.variant for arm in one.challengers]) == (
        ("trading_decision_fused", "3"), ["fresh", "other"],
    )  # fmt: skip
    assert desk.found.status()[0]["challengers"] == {"fresh": "closed", "other": "closed"}
    # The same object as long as nothing changes: what is remembered of units holds.
    assert desk.found.running() is desk.found.running()


def test_a_stop_counts_at_once_and_lets_go_of_them(desk):
    desk.say("ramp", share=0.5, from_block=3)
    desk.tritons.served["a:1", COPY, "4"] = FakeChallenger()
    desk.found.look()
    desk.say("stop")
    assert desk.found.running() == ()
    desk.found.look()
    assert desk.found._served == {}
    desk.found.close()
    assert desk.tritons.served["a:1", COPY, "4"].closed


def test_one_that_is_gone_is_looked_for_again(desk):
    desk.say("ramp", share=0.5, from_block=3)
    desk.tritons.served["a:1", COPY, "4"] = first = FakeChallenger()
    desk.found.look()
    first.served = False
    desk.tritons.served["a:1", COPY, "4"] = second = FakeChallenger()
    desk.found.look()
    assert desk.models()[0].inner is second


def test_why_one_is_not_served_is_told_and_it_is_not_looked_for_at_every_look(desk):
    desk.say("ramp", share=0.5, from_block=3)
    desk.tritons.served["b:1", COPY, "4"] = ServiceUnavailable("b does not answer")
    desk.found.look()
    assert desk.found.status()[0]["challengers"]["fresh"] == "b does not answer"
    count = len(desk.tritons.asked)
    desk.found.look()
    assert len(desk.tritons.asked) == count
    desk.look_again()
    assert len(desk.tritons.asked) > count


def test_one_that_cannot_be_learned_of_is_closed_and_not_asked(desk):
    class Silent(FakeChallenger):
        def settle_rows(self, probe):
            raise PredictorTimeout("no answer")

    desk.say("ramp", share=0.5, from_block=3)
    desk.tritons.served["a:1", COPY, "4"] = silent = Silent()
    desk.found.look()
    assert silent.closed
    assert desk.models() == (None, None)


@pytest.mark.parametrize("how", ["fails", "late"])
def test_one_that_keeps_failing_is_not_asked_for_a_while(desk, how):
    desk.say("ramp", share=0.5, from_block=3)
    error = PredictorTimeout("late")
    desk.tritons.served["a:1", COPY, "4"] = model = FakeChallenger(**{how: error})
    desk.found.look()
    guarded = desk.models()[0]
    for _ in range(FAILURES):
        with pytest.raises(PredictorTimeout):
            guarded.begin(PROBE).result(1.0)
    with pytest.raises(PredictorUnavailable, match="breaker is open"):
        guarded.begin(PROBE)
    assert len(model.asked) <= FAILURES
    assert desk.found.status()[0]["challengers"]["fresh"] == "open"
