"""One of several Tritons is asked, another where it does not answer, and only such as answer alike."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from gateway.adapters import triton_lineup, tritons
from gateway.adapters.tritons import Tritons, first_of
from gateway.breaker import FAIR_TIMEOUT_S
from gateway.settings import GatewaySettings
from tests.waiting import eventually
from trading.errors import (
    ContractMismatch,
    InvalidPrediction,
    PredictorDown,
    PredictorTimeout,
    PredictorUnavailable,
    ServiceUnavailable,
)
from trading.models.serving import ServingFacts

ROWS, PROBE = np.zeros((2, 32), np.float32), np.ones((3, 32), np.float32)


class FakeTriton:
    """A server: the versions that it has loaded, what it answers, whether it is there, and what it was asked."""

    def __init__(self, *versions, answers=1.0):
        self.versions, self.answers = list(versions or "1"), answers
        self.gone = self.hangs = self.wrong = self.refuses = False
        self.takes_s = self.settles_s = 0.0
        self.batches, self.settled, self.open = [], 0, 0

    def check(self, version=""):
        if self.gone:
            raise ServiceUnavailable("connection refused")
        if self.wrong or (version and version not in self.versions):
            raise ContractMismatch("other tensors" if self.wrong else f"version {version} is not ready")

    def release(self, version):
        """As an ensemble is: the one before is gone."""
        self.versions = [version]


class FakePredictor:
    """A connection to a fake server, which stays with one version."""

    workers, rows_multiple = (), 1

    def __init__(self, server, version):
        server.check(version)
        self._server, self.model_version, self.serving = server, version or server.versions[-1], None
        self.closed = False
        server.open += 1

    def settle_rows(self, probe):
        self._server.check()
        self._server.settled += 1
        found = str(self._server.answers)
        time.sleep(self._server.settles_s)
        self.serving = ServingFacts("triton 2", {"m": "cpu"}, 8, found)
        return self.serving

    def newest(self):
        self._server.check()
        return self._server.versions[-1]

    def predict(self, features, timeout_s):
        assert not self.closed
        server = self._server
        if features is ROWS:
            server.batches.append(timeout_s)
        if server.gone:
            raise PredictorDown("connection refused")
        if server.hangs or server.takes_s > timeout_s:
            time.sleep(timeout_s)
            raise PredictorTimeout("deadline exceeded")
        if self.model_version not in server.versions or (server.refuses and features is ROWS):
            raise PredictorUnavailable("NOT_FOUND")
        time.sleep(server.takes_s)
        column = np.full(len(features), server.answers)
        return SimpleNamespace(
            server=server, version=self.model_version, regime_probabilities=column, strategy_signals=column,
            strategy_weights=column, target_position=column,
        )  # fmt: skip

    def close(self):
        assert not self.closed
        self.closed = True
        self._server.open -= 1


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for module in (tritons, triton_lineup):
        monkeypatch.setattr(module, "LOOK_S", 0.02)
        monkeypatch.setattr(module, "SOONEST_S", 0.005)
    monkeypatch.setattr(tritons, "PROBE_S", 0.05)
    monkeypatch.setattr(tritons, "FIRST_PROBE_S", 0.1)
    monkeypatch.setattr(tritons, "OTHERWISE_S", 0.02)


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
    assert "refused" in desk.why(0)
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


def test_one_that_hangs_leaves_half_of_the_time_to_another_and_is_asked_after_it(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.hangs = True
    began = time.monotonic()
    assert desk.ask(0.2).server is b
    assert time.monotonic() - began < 0.2
    assert b.batches[-1] == pytest.approx(0.1, abs=0.05)
    assert desk.ask(0.2).server is b
    assert len(a.batches) == 1
    a.hangs = False
    eventually(lambda: desk.ask().server is a)


def test_a_moment_in_which_all_are_slow_costs_no_batch_after_it(made):
    """Looks are not answered either, for as long as it takes to notice; and to take one anew would take long."""
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.settles_s = b.settles_s = 1.0
    a.takes_s = b.takes_s = 0.06
    with pytest.raises(PredictorTimeout):
        desk.ask(0.045)
    time.sleep(0.5)
    a.takes_s = b.takes_s = 0.0
    assert [desk.ask().version for _ in range(20)] == ["1"] * 20
    # One of them was lost meanwhile: never the last.
    assert "" in desk.tritons.servers().values()


def test_a_batch_that_every_server_refuses_costs_none_after_it(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.refuses = b.refuses = True
    with pytest.raises(PredictorUnavailable, match="NOT_FOUND"):
        desk.ask()
    a.refuses = b.refuses = False
    assert desk.ask().version == "1"


def test_little_time_is_not_divided_and_says_nothing_of_a_server(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.takes_s = 0.012
    assert desk.ask(0.018).server is a
    with pytest.raises(PredictorTimeout):
        desk.ask(FAIR_TIMEOUT_S / 4)
    assert desk.why(0) == desk.why(1) == ""
    assert desk.ask().server is a


def test_one_that_hangs_while_there_is_little_time_is_passed_by(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.hangs = True
    lost = 0
    for _ in range(20):
        try:
            assert desk.ask(0.019).server is b
        except PredictorTimeout:
            lost += 1
    assert lost <= triton_lineup.SHORT_MISSES
    a.hangs = False


def test_one_that_is_too_slow_for_batches_stays_behind_though_it_answers_looks(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.takes_s = 0.04
    lost = 0
    for _ in range(60):
        try:
            desk.ask(0.035)
        except PredictorTimeout:
            lost += 1
        time.sleep(0.01)
    assert lost <= triton_lineup.SHORT_MISSES
    assert len(a.batches) <= triton_lineup.SHORT_MISSES
    a.takes_s = 0.0
    eventually(lambda: desk.ask().server is a)


def test_one_that_is_known_to_answer_otherwise_is_not_asked_while_it_is_taken_anew(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.settles_s, a.answers = 0.5, 2.0
    eventually(lambda: desk.why(0) != "")
    assert [desk.ask().server for _ in range(10)] == [b] * 10
    eventually(lambda: desk.told == [("1", "2.0")], 5)
    assert desk.ask().server is a


def test_before_anybody_tells_of_it_one_that_answers_otherwise_is_not_asked():
    a, b = FakeTriton(), FakeTriton()
    desk = Desk(a, b)
    try:
        desk.tritons.settle_rows(PROBE)
        a.answers = 2.0
        eventually(lambda: desk.why(0) != "")
        time.sleep(0.1)
        assert [desk.ask().server for _ in range(5)] == [b] * 5
        assert a.open <= 2
    finally:
        desk.tritons.close()
    assert (a.open, b.open) == (0, 0)


def test_who_tells_and_fails_leaves_no_connection_and_what_counted(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)

    def refuse(*_):
        raise ServiceUnavailable("no thread can be started")

    desk.tritons.follow(refuse)
    a.versions = ["1", "2"]
    time.sleep(0.2)
    assert (desk.ask().version, a.open) == ("1", 1)


def test_where_none_answers_the_reason_is_told_until_one_was_tried_anew(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    a.gone = b.gone = True
    for _ in range(2):
        with pytest.raises(PredictorUnavailable, match="refused"):
            desk.ask()
    assert all(desk.tritons.servers().values())
    b.gone, b.answers = False, 2.0
    # Back as another build: it is not asked in its old name.
    eventually(lambda: "otherwise" in desk.why(1))
    with pytest.raises(PredictorUnavailable, match="otherwise"):
        desk.ask()
    a.gone = False
    eventually(lambda: desk.why(0) == "")
    assert desk.ask().server is a


def test_an_answer_that_is_none_is_not_asked_of_another(made, monkeypatch):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    predict = FakePredictor.predict

    def invalid(self, features, timeout_s):
        if features is ROWS:
            a.batches.append(timeout_s)
            raise InvalidPrediction("NaN")
        return predict(self, features, timeout_s)

    monkeypatch.setattr(FakePredictor, "predict", invalid)
    with pytest.raises(InvalidPrediction):
        desk.ask()
    assert (len(a.batches), b.batches) == (1, [])


@pytest.mark.parametrize(
    ("versions", "answers", "says"),
    [("2", 1.0, "version 1 is not ready"), ("1", 2.0, "answers a probe otherwise")],
)
def test_one_that_answers_otherwise_is_not_asked(made, versions, answers, says):
    a, other = FakeTriton(), FakeTriton(*versions, answers=answers)
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
    a.gone = True
    assert desk.ask().server is b


def test_one_that_becomes_another_build_while_it_is_taken_is_taken_anew(made):
    a, b = FakeTriton(), FakeTriton(answers=2.0)
    b.settles_s = 0.2
    turning = threading.Timer(0.1, setattr, (b, "answers", 1.0))
    # It is settled as the one, and answers as the other.
    turning.start()
    desk = made(a, b)
    assert "otherwise" in desk.why(1)
    eventually(lambda: desk.why(1) == "")
    turning.join()
    a.gone = True
    assert desk.ask().server is b


def test_the_first_says_which_version_counts_and_it_is_told_before_it_is_asked(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b, first=1)
    # A release on another is none: it is asked for what counts, as long as that is loaded there too.
    b.versions = ["1", "2"]
    time.sleep(0.1)
    assert (desk.ask().server, desk.ask().version, desk.told) == (b, "1", [])
    a.release("3")
    eventually(lambda: desk.tritons.model_version == "3")
    found = desk.ask()
    assert (found.server, found.version, desk.told) == (a, "3", [("3", "1.0")])
    b.release("3")
    eventually(lambda: desk.ask().server is b)
    # A way back counts as a release does.
    a.release("1")
    eventually(lambda: desk.tritons.model_version == "1")
    found = desk.ask()
    assert (found.server, found.version, desk.told[-1][0]) == (a, "1", "1")


def test_a_version_that_does_not_settle_leaves_what_is_served(made, monkeypatch):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    settle = FakePredictor.settle_rows

    def fails(self, probe):
        if self.model_version == "2":
            raise InvalidPrediction("NaN")
        return settle(self, probe)

    monkeypatch.setattr(FakePredictor, "settle_rows", fails)
    a.versions, b.versions = ["1", "2"], ["1", "2"]
    time.sleep(0.1)
    assert [desk.ask().version for _ in range(5)] == ["1"] * 5
    assert (desk.told, set(desk.tritons.servers().values())) == ([], {""})
    assert a.open < 4


def test_while_the_first_is_gone_what_it_served_counts(made):
    a, b, c = FakeTriton(), FakeTriton(), FakeTriton("0")
    desk = made(a, b, c)
    a.gone = True
    assert desk.ask().server is b
    # Something is released there meanwhile, and what counts is still loaded.
    b.versions = ["1", "2"]
    time.sleep(0.1)
    assert (desk.ask().server, desk.ask().version) == (b, "1")
    b.gone = True
    with pytest.raises(PredictorUnavailable):
        desk.ask()
    c.release("9")
    time.sleep(0.1)
    with pytest.raises(PredictorUnavailable):
        desk.ask()
    assert (desk.tritons.model_version, c.batches, desk.told) == ("1", [], [])
    b.gone = False
    eventually(lambda: desk.why(1) == "")
    assert desk.ask().server is b


def test_a_start_without_the_first_waits_unless_a_version_is_pinned(made):
    a, b = FakeTriton(), FakeTriton("0")
    a.gone = True
    with pytest.raises(ServiceUnavailable, match="it says which version counts"):
        made(a, b)
    desk = made(a, b, pinned="0")
    assert (desk.ask().server, desk.ask().version) == (b, "0")
    a.gone, a.versions = False, ["1"]
    other = made(a, b, pinned="0")
    assert (other.ask().server, "not ready" in other.why(0)) == (b, True)
    b.gone = a.gone = True
    with pytest.raises(ServiceUnavailable, match="refused; connection refused"):
        made(a, b, pinned="0")
    b.gone, b.versions = False, ["1"]
    with pytest.raises(ServiceUnavailable, match="connection refused; .*not ready"):
        made(a, b, pinned="0")
    a.gone = False
    with pytest.raises(ContractMismatch, match="not ready"):
        made(a, b, pinned="0")


def test_a_pinned_version_is_not_settled_again_because_there_is_a_newer_one(made):
    a, b = FakeTriton("1", "2"), FakeTriton("1", "2")
    desk = made(a, b, pinned="1")
    time.sleep(0.2)
    assert (a.settled, b.settled, desk.ask().version) == (1, 1, "1")


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
        a.versions = ["1", "2"]
        time.sleep(0.1)
        assert (desk.tritons.model_version, desk.ask().version) == ("1", "1")
        desk.tritons.follow(lambda version, _: desk.told.append(version))
        eventually(lambda: desk.tritons.model_version == "2")
        assert desk.told == ["2"]
    finally:
        desk.tritons.close()


def test_a_failure_of_what_was_replaced_says_nothing_of_what_is_there_now(made):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    member, served = desk.tritons._lineup.asked[0]
    a.release("2")
    eventually(lambda: desk.tritons.model_version == "2")
    desk.tritons._roster.lose(member, PredictorDown("of before"), served)
    desk.tritons._roster.missed(member, served, PredictorTimeout("of before"), is_fair=True)
    desk.tritons._roster.was_slow(member, served, PredictorTimeout("of before"))
    assert desk.why(0) == ""
    assert desk.ask().server is a


def test_one_that_comes_and_goes_is_tried_less_and_less_and_at_once_where_it_is_the_last(made, monkeypatch):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    # The second, so that what counts does not matter.
    member, pauses = desk.tritons._members[1], []
    monkeypatch.setattr(triton_lineup, "LONGEST_PAUSE_S", 60.0)
    member.pause_s = 0.02
    for _ in range(4):
        b.gone = True
        eventually(lambda: desk.why(1) != "")
        pauses.append(member.pause_s)
        b.gone = False
        eventually(lambda: desk.why(1) == "", 5)
    assert pauses == pytest.approx([0.04, 0.08, 0.16, 0.32])
    member.pause_s = 30.0
    b.gone = True
    eventually(lambda: desk.why(1) != "")
    b.gone, a.gone = False, True
    eventually(lambda: desk.why(1) == "", 5)
    assert desk.ask().server is b


def test_whoever_looks_after_them_is_in_the_health_and_survives_what_nobody_expected(made, monkeypatch):
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    assert [worker.problem for worker in desk.tritons.workers] == ["", ""]
    newest = FakePredictor.newest

    def broken(*_):
        raise KeyError("steps")

    # What has just answered as it should goes on, whatever is wrong with asking for another.
    monkeypatch.setattr(FakePredictor, "newest", broken)
    time.sleep(0.1)
    assert (desk.why(0), desk.ask().server) == ("", a)
    monkeypatch.setattr(FakePredictor, "newest", newest)
    monkeypatch.setattr(tritons, "answered", broken)
    eventually(lambda: "steps" in desk.why(0) and "steps" in desk.why(1))
    monkeypatch.setattr(tritons, "answered", triton_lineup.answered)
    eventually(lambda: set(desk.tritons.servers().values()) == {""}, 5)
    assert [worker.problem for worker in desk.tritons.workers] == ["", ""]


def test_a_batch_that_is_asked_while_a_version_goes_is_answered(made, monkeypatch):
    """As a model of one file is released: the version before stays loaded."""
    monkeypatch.setattr(triton_lineup, "CLOSE_AFTER_S", 0.2)
    a, b = FakeTriton(), FakeTriton()
    desk = made(a, b)
    failures, ended = [], threading.Event()

    def asking():
        while not ended.is_set():
            try:
                desk.ask()
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    thread = threading.Thread(target=asking)
    thread.start()
    for version in range(2, 6):
        a.versions = b.versions = [str(version - 1), str(version)]
        eventually(lambda version=version: desk.tritons.model_version == str(version))
        eventually(lambda: desk.why(1) == "")
    ended.set()
    thread.join()
    assert failures == []
    assert [version for version, _ in desk.told] == ["2", "3", "4", "5"]


def test_when_it_is_closed_no_connection_and_no_thread_is_left():
    a, b = FakeTriton(), FakeTriton()
    desk = Desk(a, b).start()
    a.release("2")
    eventually(lambda: desk.tritons.model_version == "2")
    desk.tritons.close()
    assert [worker.is_alive() for worker in desk.tritons.workers] == [False, False]
    assert (a.open, b.open) == (0, 0)


@pytest.mark.parametrize(
    "url", ["", "a", "a:1,", "a:1,a:1", "a:1, a:1", "http://a:1", "a:1 b:2", "a:x", ",", "a:123456"]
)
def test_what_is_no_list_of_addresses_is_refused_by_name(url):
    with pytest.raises(ValueError, match="triton_url"):
        GatewaySettings(triton_url=url)


@pytest.mark.parametrize("url", ["a:1", "a:1, b.c:65535", "127.0.0.1:8001,[::1]:8001"])
def test_addresses_are_taken_apart(url):
    assert GatewaySettings(triton_url=url).tritons == tuple(url.replace(" ", "").split(","))
