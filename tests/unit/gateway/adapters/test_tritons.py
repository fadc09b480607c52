"""One of several Tritons is asked, another where it does not answer, and only such as answer alike."""

from __future__ import annotations

import time

import numpy as np
import pytest

from gateway.adapters import tritons
from gateway.adapters.tritons import Tritons, first_of
from gateway.settings import GatewaySettings
from tests.waiting import eventually
from trading.errors import (
    ContractMismatch,
    InvalidPrediction,
    PredictorTimeout,
    PredictorUnavailable,
    ServiceUnavailable,
)
from trading.models.serving import ServingFacts

ROWS = np.zeros((2, 32), np.float32)


class FakeTriton:
    """A server: what it serves, whether it answers, and how often it was asked for how long."""

    def __init__(self, version="1", answers="aa", failure=None):
        self.version, self.answers, self.failure = version, answers, failure
        self.asked = []
        self.wrong = False
        self.while_asked = lambda: None

    @property
    def model_versions(self):
        """It is its own answer."""
        return (self.version,)


class FakePredictor:
    """What is connected to a fake server."""

    model_name, rows_multiple = "m", 1

    def __init__(self, server):
        if isinstance(server.failure, ServiceUnavailable):
            raise server.failure
        if server.wrong:
            raise ContractMismatch("other tensors")
        self._server, self.closed, self.settled, self.followed = server, False, "", 0

    @property
    def model_version(self):
        return self._server.version

    @property
    def serving(self):
        return ServingFacts("triton 2", {"m": "cpu"}, 8, self.settled) if self.settled else None

    def settle_rows(self, probe):
        if self._server.failure:
            raise ServiceUnavailable("gone")
        self.settled = self._server.answers
        return self.serving

    def follow(self, before):
        self.followed += 1

    def servers(self):
        return {}

    def predict(self, features, timeout_s):
        self._server.asked.append(timeout_s)
        self._server.while_asked()
        if self._server.failure:
            if isinstance(self._server.failure, PredictorTimeout):
                time.sleep(timeout_s)
            raise self._server.failure
        return self._server

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tritons, "LOOK_S", 0.01)


@pytest.fixture
def made():
    kept = []

    def make(*servers, first=0, before=lambda *_: None):
        by_address = {f"t{number}:8001": server for number, server in enumerate(servers)}
        found = Tritons(list(by_address), "m", "", first, lambda address, *_: FakePredictor(by_address[address]))
        kept.append(found)
        found.settle_rows(ROWS)
        found.follow(before)
        return found

    yield make
    for one in kept:
        one.close()


def test_a_gateway_stays_with_one_and_gateways_spread(made):
    a, b = FakeTriton(), FakeTriton()
    second = made(a, b, first=1)
    assert [second.predict(ROWS, 0.05) for _ in range(5)] == [b] * 5
    assert a.asked == []
    assert b.asked == pytest.approx([0.025] * 5, abs=0.001)
    assert (second.model_version, second.rows_multiple, second.serving.rows_multiple) == ("1", 8, 8)
    assert [first_of(f"gateway-{n}") % 3 for n in range(6)] == [0, 1, 2, 0, 1, 2]
    assert first_of("host") == first_of("host")


def test_one_that_is_gone_costs_no_tick_and_is_asked_again_when_it_is_back(made):
    a, b = FakeTriton(), FakeTriton()
    found = made(a, b)
    a.failure = PredictorUnavailable("connection refused")
    assert found.predict(ROWS, 0.05) is b
    assert found.servers() == {"t0:8001": "connection refused", "t1:8001": ""}
    # It is not tried with the next batch: somebody looks after it meanwhile.
    looked = len(a.asked)
    assert found.predict(ROWS, 0.05) is b
    assert all(timeout == tritons.PROBE_S for timeout in a.asked[looked:])
    a.failure = None
    eventually(lambda: found.predict(ROWS, 0.05) is a)
    assert set(found.servers().values()) == {""}


def test_one_that_hangs_leaves_half_of_the_time_to_another(made):
    a, b = FakeTriton(), FakeTriton()
    found = made(a, b)
    a.failure = PredictorTimeout("deadline exceeded")
    began = time.monotonic()
    assert found.predict(ROWS, 0.2) is b
    assert time.monotonic() - began < 0.2
    assert b.asked[-1] == pytest.approx(0.1, abs=0.05)


def test_where_none_answers_the_reason_is_told_and_the_first_that_is_back_is_asked(made):
    a, b = FakeTriton(), FakeTriton()
    found = made(a, b)
    a.failure = b.failure = PredictorUnavailable("refused")
    for _ in range(2):
        with pytest.raises(PredictorUnavailable, match="refused"):
            found.predict(ROWS, 0.05)
    b.failure = None
    assert found.predict(ROWS, 0.05) is b


def test_an_answer_that_is_none_is_not_asked_of_another(made):
    a, b = FakeTriton(), FakeTriton()
    found = made(a, b)
    a.failure = InvalidPrediction("NaN")
    with pytest.raises(InvalidPrediction):
        found.predict(ROWS, 0.05)
    assert b.asked == []


@pytest.mark.parametrize(
    ("other", "says"),
    [(FakeTriton(version="2"), "version 2, and 1 counts"), (FakeTriton(answers="bb"), "answers a probe otherwise")],
)
def test_one_that_answers_otherwise_is_not_asked(made, other, says):
    a = FakeTriton()
    found = made(a, other, first=1)
    assert found.predict(ROWS, 0.05) is a
    assert says in found.servers()["t1:8001"]
    a.failure = PredictorUnavailable("refused")
    with pytest.raises(PredictorUnavailable):
        found.predict(ROWS, 0.05)
    assert other.asked == []


def test_the_first_says_which_version_counts_and_it_is_told_before_it_is_asked(made):
    a, b = FakeTriton(), FakeTriton()
    told = []
    found = made(a, b, first=1, before=lambda version, serving: told.append((version, serving.probe_sha256)))
    # A release on one of them is none: it goes to the first.
    b.version = "2"
    assert found.predict(ROWS, 0.05) is a
    assert (found.model_version, told) == ("1", [])
    a.version = "3"
    assert found.predict(ROWS, 0.05) is a
    assert (found.model_version, told) == ("3", [("3", "aa")])
    b.version = "3"
    assert found.predict(ROWS, 0.05) is b
    # A way back counts as a release does.
    a.version = "1"
    eventually(lambda: found.model_version == "1")
    assert found.predict(ROWS, 0.05) is a
    assert told[-1] == ("1", "aa")


def test_an_answer_of_a_version_that_does_not_count_is_none(made):
    a, b = FakeTriton(), FakeTriton()
    found = made(a, b, first=1)
    b.while_asked = lambda: setattr(b, "version", "2")
    assert found.predict(ROWS, 0.05) is a
    assert len(b.asked) == 1


def test_one_that_comes_back_as_another_build_is_not_asked(made):
    a, b = FakeTriton(), FakeTriton()
    found = made(a, b, first=1)
    b.failure = PredictorUnavailable("refused")
    assert found.predict(ROWS, 0.05) is a
    b.failure, b.answers = None, "bb"
    eventually(lambda: "answers a probe otherwise" in found.servers()["t1:8001"])
    assert found.predict(ROWS, 0.05) is a


def test_until_somebody_tells_of_versions_there_is_no_other():
    a, b = FakeTriton(), FakeTriton()
    by_address = {"a": a, "b": b}
    found = Tritons(list(by_address), "m", "", 0, lambda address, *_: FakePredictor(by_address[address]))
    try:
        found.settle_rows(ROWS)
        a.version = "2"
        time.sleep(0.05)
        assert found.model_version == "1"
        assert found.predict(ROWS, 0.05) is b
        told = []
        found.follow(lambda version, _: told.append(version))
        eventually(lambda: found.model_version == "2")
        assert told == ["2"]
    finally:
        found.close()


def test_while_the_first_is_gone_what_it_served_counts(made):
    a, b = FakeTriton(), FakeTriton()
    found = made(a, b)
    a.failure = PredictorUnavailable("refused")
    b.version = "0"
    with pytest.raises(PredictorUnavailable):
        found.predict(ROWS, 0.05)
    assert found.model_version == "1"
    b.version = "1"
    assert found.predict(ROWS, 0.05) is b


def test_one_that_is_not_there_at_the_start_is_looked_for(made):
    a, b = FakeTriton(failure=ServiceUnavailable("no answer")), FakeTriton()
    found = made(a, b)
    assert found.predict(ROWS, 0.05) is b
    assert "no answer" in found.servers()["t0:8001"]
    a.failure = None
    eventually(lambda: found.predict(ROWS, 0.05) is a)


def test_none_that_answers_or_one_that_is_wrong_starts_nobody(made):
    gone = FakeTriton(failure=ServiceUnavailable("no answer"))
    with pytest.raises(ServiceUnavailable, match="no answer; no answer"):
        made(gone, gone)
    wrong = FakeTriton()
    wrong.wrong = True
    with pytest.raises(ContractMismatch):
        made(FakeTriton(), wrong)


def test_a_note_that_cannot_be_written_keeps_the_version_that_counts(made):
    a, b = FakeTriton(), FakeTriton()

    def refuse(*_):
        raise ServiceUnavailable("the log does not take it")

    found = made(a, b, before=refuse)
    a.version = "2"
    time.sleep(0.05)
    b.version, before = "3", found.model_version
    # Nor does it end who decides.
    with pytest.raises(PredictorUnavailable):
        found.predict(ROWS, 0.05)
    assert before == found.model_version == "1"
    b.version = "1"
    # The other still serves what counts, and whoever looks after them goes on.
    assert found.predict(ROWS, 0.05) is b
    found.follow(lambda *_: None)
    eventually(lambda: found.model_version == "2")


@pytest.mark.parametrize(
    "url", ["", "a", "a:1,", "a:1,a:1", "a:1, a:1", "http://a:1", "a:1 b:2", "a:x", ",", "a:123456"]
)
def test_what_is_no_list_of_addresses_is_refused_by_name(url):
    with pytest.raises(ValueError, match="triton_url"):
        GatewaySettings(triton_url=url)


@pytest.mark.parametrize("url", ["a:1", "a:1, b.c:65535", "127.0.0.1:8001,[::1]:8001"])
def test_addresses_are_taken_apart(url):
    assert GatewaySettings(triton_url=url).tritons == tuple(url.replace(" ", "").split(","))
