"""One of several Tritons is asked, another where it does not answer, and only such as answer alike."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from gateway.adapters import tritons
from gateway.adapters.tritons import Tritons, first_of
from gateway.breaker import FAIR_TIMEOUT_S
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

ROWS, PROBE = np.zeros((2, 32), np.float32), np.ones((3, 32), np.float32)


class FakeTriton:
    """A server: the versions that it has, what each answers, whether it is there, and what it was asked."""

    def __init__(self, version="1", answers=1.0):
        self.version, self.answers, self.gone, self.hangs, self.wrong = version, answers, False, False, False
        self.takes_s = 0.0
        self.batches, self.probes = [], 0

    def check(self):
        if self.gone:
            raise ServiceUnavailable("connection refused")


class FakePredictor:
    """A connection to a fake server, which stays with the version that was the newest."""

    workers = ()

    def __init__(self, server, pinned):
        server.check()
        if server.wrong:
            raise ContractMismatch("other tensors")
        self._server, self.model_version, self.rows_multiple, self.serving = (
            server,
            pinned or server.version,
            1,
            None,
        )
        self.closed = False

    def settle_rows(self, probe):
        self._server.check()
        self.serving = ServingFacts("triton 2", {"m": "cpu"}, 8, str(self._server.answers))
        return self.serving

    def newest(self):
        self._server.check()
        return self._server.version

    def predict(self, features, timeout_s):
        assert not self.closed
        server = self._server
        if features is PROBE:
            server.probes += 1
        else:
            server.batches.append(timeout_s)
        if server.gone:
            raise PredictorUnavailable("connection refused")
        if server.hangs or server.takes_s > timeout_s:
            time.sleep(timeout_s)
            raise PredictorTimeout("deadline exceeded")
        time.sleep(server.takes_s)
        column = np.full(len(features), server.answers)
        return SimpleNamespace(
            server=server, version=self.model_version, regime_probabilities=column, strategy_signals=column,
            strategy_weights=column, target_position=column,
        )  # fmt: skip

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tritons, "LOOK_S", 0.01)
    monkeypatch.setattr(tritons, "PROBE_S", 0.02)
    monkeypatch.setattr(tritons, "FIRST_PROBE_S", 0.05)


class Desk:
    """Servers, and a gateway that knows them."""

    def __init__(self, *servers, first=0, pinned=""):
        by_address = {f"t{number}:8001": server for number, server in enumerate(servers)}
        self.told = []
        self.tritons = Tritons(
            list(by_address), "m", pinned, first,
            lambda address, model_name, model_version: FakePredictor(by_address[address], model_version),
        )  # fmt: skip

    def start(self):
        self.tritons.settle_rows(PROBE)
        self.tritons.follow(lambda version, serving: self.told.append((version, serving.probe_sha256)))
        return self

    def ask(self, timeout_s=0.05):
        return self.tritons.predict(ROWS, timeout_s)

    def why(self, number):
        return self.tritons.servers()[f"t{number}:8001"]


@pytest.fixture
def made():
    kept = []

    def make(*servers, **given):
        kept.append(Desk(*servers, **given))
        return kept[-1].start()

    yield make
    for one in kept:
        one.tritons.close()


def test_a_gateway_stays_with_one_and_gateways_spread(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b, first=1)
    assert [desk.ask().server for _ in range(5)] == [b] * 5
    assert a.batches == []
    assert b.batches == pytest.approx([0.025] * 5, abs=0.002)
    assert (desk.tritons.model_version, desk.tritons.rows_multiple, desk.tritons.serving.rows_multiple) == (
        "1",
        8,
        8,
    )
    assert [first_of(f"gateway-{n}") % 3 for n in range(6)] == [0, 1, 2, 0, 1, 2]
    assert first_of("host") == first_of("host")


def test_one_that_is_gone_costs_no_tick_and_is_asked_again_when_it_is_back(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.gone = True
    assert desk.ask().server is b
    assert desk.why(0) != ""
    asked = len(a.batches)
    assert [desk.ask().server for _ in range(3)] == [b] * 3
    # It is not tried with a batch: somebody looks after it meanwhile.
    assert len(a.batches) == asked
    a.gone = False
    eventually(lambda: desk.ask().server is a)
    assert set(desk.tritons.servers().values()) == {""}


def test_one_that_is_idle_is_known_to_be_gone_before_it_is_needed(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    b.gone = True
    eventually(lambda: "refused" in desk.why(1))
    assert b.batches == []
    # Alone, it has all of the time.
    desk.ask(0.05)
    assert a.batches[-1] == pytest.approx(0.05, abs=0.002)


def test_one_that_hangs_leaves_half_of_the_time_to_another(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.hangs = True
    began = time.monotonic()
    assert desk.ask(0.2).server is b
    assert time.monotonic() - began < 0.2
    assert b.batches[-1] == pytest.approx(0.1, abs=0.05)


def test_little_time_is_not_divided_and_says_nothing_of_a_server(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.takes_s = 0.012
    assert desk.ask(0.015).server is a
    for _ in range(3):
        with pytest.raises(PredictorTimeout):
            desk.ask(FAIR_TIMEOUT_S / 4)
    assert desk.why(0) == desk.why(1) == ""


def test_where_none_answers_the_reason_is_told_until_one_was_tried_anew(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.gone = b.gone = True
    for _ in range(2):
        with pytest.raises(PredictorUnavailable, match="refused"):
            desk.ask()
    b.gone, b.answers = False, 2.0
    # Back as another build: it is not asked in its old name.
    eventually(lambda: "otherwise" in desk.why(1))
    with pytest.raises(PredictorUnavailable, match="otherwise"):
        desk.ask()
    a.gone = False
    eventually(lambda: desk.why(0) == "")
    assert desk.ask().server is a


def test_an_answer_that_is_none_is_not_asked_of_another(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    predict = FakePredictor.predict

    def invalid(self, features, timeout_s):
        if features is ROWS:
            a.batches.append(timeout_s)
            raise InvalidPrediction("NaN")
        return predict(self, features, timeout_s)

    FakePredictor.predict = invalid
    try:
        with pytest.raises(InvalidPrediction):
            desk.ask()
    finally:
        FakePredictor.predict = predict
    assert (len(a.batches), b.batches) == (1, [])


@pytest.mark.parametrize(
    ("other", "says"),
    [(FakeTriton(version="2"), "version 2, and 1 counts"), (FakeTriton(answers=2.0), "answers a probe otherwise")],
)
def test_one_that_answers_otherwise_is_not_asked(made, other, says):
    a = FakeTriton()
    desk = made(a, other, first=1)
    assert desk.ask().server is a
    assert says in desk.why(1)
    a.gone = True
    with pytest.raises(PredictorUnavailable):
        desk.ask()
    assert other.batches == []


def test_one_that_is_started_anew_unseen_as_another_build_is_found_out(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    b.answers = 2.0
    eventually(lambda: "otherwise" in desk.why(1))
    b.answers = 1.0
    eventually(lambda: desk.why(1) == "")


def test_the_first_says_which_version_counts_and_it_is_told_before_it_is_asked(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b, first=1)
    # A release on another is none.
    b.version = "2"
    eventually(lambda: "version 2" in desk.why(1))
    assert (desk.ask().server, desk.tritons.model_version, desk.told) == (a, "1", [])
    a.version = "3"
    eventually(lambda: desk.tritons.model_version == "3")
    found = desk.ask()
    assert (found.server, found.version, desk.told) == (a, "3", [("3", "1.0")])
    b.version = "3"
    eventually(lambda: desk.ask().server is b)
    # A way back counts as a release does.
    a.version = "1"
    eventually(lambda: desk.tritons.model_version == "1")
    found = desk.ask()
    assert (found.server, found.version, desk.told[-1][0]) == (a, "1", "1")


def test_while_the_first_is_gone_what_it_served_counts(made):
    a, b, c = FakeTriton(), FakeTriton(), FakeTriton(version="0")
    desk = made(a, b, c)
    a.gone = True
    assert desk.ask().server is b
    b.gone = True
    with pytest.raises(PredictorUnavailable):
        desk.ask()
    c.version = "9"
    time.sleep(0.05)
    with pytest.raises(PredictorUnavailable):
        desk.ask()
    assert (desk.tritons.model_version, c.batches, desk.told) == ("1", [], [])
    b.gone = False
    eventually(lambda: desk.why(1) == "")
    assert desk.ask().server is b


def test_a_start_without_the_first_waits_unless_a_version_is_pinned(made):
    a, b = FakeTriton(), FakeTriton(version="0")
    a.gone = True
    with pytest.raises(ServiceUnavailable, match="it says which version counts"):
        made(a, b)
    desk = made(a, b, pinned="0")
    assert (desk.ask().server, desk.ask().version) == (b, "0")
    b.gone = True
    with pytest.raises(ServiceUnavailable, match="refused; connection refused"):
        made(a, b, pinned="0")


def test_of_the_others_one_that_is_not_there_or_is_wrong_keeps_nobody_from_starting(made):
    a, gone, wrong = FakeTriton(), FakeTriton(), FakeTriton()
    gone.gone = wrong.wrong = True
    desk = made(a, gone, wrong, first=1)
    assert desk.ask().server is a
    assert ("refused" in desk.why(1), "other tensors" in desk.why(2)) == (True, True)
    gone.gone = wrong.wrong = False
    eventually(lambda: desk.ask().server is gone)
    eventually(lambda: desk.why(2) == "")
    first = FakeTriton()
    first.wrong = True
    with pytest.raises(ContractMismatch):
        made(first, a)


def test_until_somebody_tells_of_versions_there_is_no_other():
    a, b = FakeTriton(), FakeTriton()
    desk = Desk(a, b)
    try:
        desk.tritons.settle_rows(PROBE)
        a.version = "2"
        time.sleep(0.05)
        assert desk.tritons.model_version == "1"
        assert desk.ask().server is b
        desk.tritons.follow(lambda version, _: desk.told.append(version))
        eventually(lambda: desk.tritons.model_version == "2")
        assert desk.told == ["2"]
    finally:
        desk.tritons.close()


def test_one_that_comes_and_goes_is_tried_less_and_less(made, monkeypatch):
    monkeypatch.setattr(tritons, "LONGEST_PAUSE_S", 0.08)
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    member = desk.tritons._members[0]
    pauses = []
    for _ in range(5):
        a.gone = True
        eventually(lambda: desk.why(0) != "")
        pauses.append(member.pause_s)
        a.gone = False
        eventually(lambda: desk.why(0) == "")
    assert pauses == pytest.approx([0.02, 0.04, 0.08, 0.08, 0.08])


def test_whoever_looks_after_them_is_in_the_health_and_survives_what_nobody_expected(made, monkeypatch):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    assert [worker.problem for worker in desk.tritons.workers] == ["", ""]

    def broken(_):
        raise KeyError("steps")

    monkeypatch.setattr(FakePredictor, "newest", broken)
    eventually(lambda: "steps" in desk.why(0))
    monkeypatch.undo()
    eventually(lambda: set(desk.tritons.servers().values()) == {""}, 5)
    assert [worker.problem for worker in desk.tritons.workers] == ["", ""]


def test_a_batch_that_is_asked_while_a_version_goes_is_answered(made):
    """What is replaced is closed after the next look, not under a batch."""
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    failures = []

    def asking():
        for _ in range(300):
            try:
                desk.ask()
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    thread = threading.Thread(target=asking)
    thread.start()
    for version in "2345":
        a.version = b.version = version
        eventually(lambda version=version: desk.tritons.model_version == version)
    thread.join()
    # Between two versions there may be none that counts and is served; never an error of a closed connection.
    assert {type(one) for one in failures} <= {PredictorUnavailable}


@pytest.mark.parametrize(
    "url", ["", "a", "a:1,", "a:1,a:1", "a:1, a:1", "http://a:1", "a:1 b:2", "a:x", ",", "a:123456"]
)
def test_what_is_no_list_of_addresses_is_refused_by_name(url):
    with pytest.raises(ValueError, match="triton_url"):
        GatewaySettings(triton_url=url)


@pytest.mark.parametrize("url", ["a:1", "a:1, b.c:65535", "127.0.0.1:8001,[::1]:8001"])
def test_addresses_are_taken_apart(url):
    assert GatewaySettings(triton_url=url).tritons == tuple(url.replace(" ", "").split(","))
