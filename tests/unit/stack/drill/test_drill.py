"""What a drill is made of: a fault an alert, an account of what was heard, and a verdict that can fail."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import msgspec
import numpy as np
import onnxruntime
import pytest
from matplotlib.figure import Figure
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from stack.cli.drill import show_report
from stack.drill import bad_model
from stack.drill.alarms import Heard
from stack.drill.desk import repeatedly
from stack.drill.faults import FAULTS, Fault
from stack.drill.own_disk import own_disk
from stack.drill.pictures import draw, legend, plot
from stack.drill.run import Drill, chosen, main_folder
from stack.drill.steady_load import SteadyLoad, find_rate
from stack.drill.table import LONGEST_WAIT_MIN, RATES_HZ, Counted, DrillReport, FaultTold, Recovery, Restored
from stack.drill.wounds import WOUNDS
from stack.servers.settings import ServerPorts, StackSettings
from stack.watching.alerts import ALERTS
from stack.watching.boards import DESK, LATENCY
from tests.waiting import eventually
from trading.errors import ConfigurationError, ServiceUnavailable

TOLD = Heard("KillSwitch", 3.5, 0.1, (), 2.0)
HELD = FaultTold("kill switch", [TOLD], [])
RECOVERED = Recovery("gateway", 3.4, 3.5)
COUNTED = Counted(100, 99, 1, 0, 0, 0)
RESTORED = Restored(900, 400, 0, True, 300.0, 20.0, 15.0)


def report(**changes):
    whole = DrillReport(
        500.0, 600.0, 498.0, [], [HELD], [RECOVERED], COUNTED, RESTORED, {"gateway": 0.99}, [], [], 2400.0
    )
    return msgspec.structs.replace(whole, **changes)


def test_every_alert_that_a_desk_can_cause_is_caused_and_no_other():
    wanted = {one.name for one in ALERTS if one.tried == "drill"}
    made = {alert for fault in (*FAULTS, *WOUNDS) for alert in fault.alerts} | {"ModelMissing"}
    assert made == wanted
    assert len({fault.name for fault in (*FAULTS, *WOUNDS)}) == len(FAULTS) + len(WOUNDS)


@pytest.mark.parametrize(
    ("heard", "ok"),
    [
        (TOLD, True),
        # Silent, because its cause was told.
        (Heard("NoDecisions", 40.0, None, ("GatewayNotReady",), 5.0), True),
        (Heard("NoDecisions", 40.0, None, (), 5.0), False),
        (Heard("NoDecisions"), False),
    ],
)
def test_an_alert_was_heard_when_somebody_was_told_of_it_or_of_its_cause(heard, ok):
    assert heard.ok is ok
    assert FaultTold("a fault", [heard], []).ok is ok


@pytest.mark.parametrize(
    "changes",
    [
        {"alarmed": ["GatewayLag"]},
        {"problems": ["kills: odd"]},
        {"faults": [FaultTold("x", [Heard("KillSwitch", 3.5, 0.1)], [])]},
        {"faults": [FaultTold("x", [TOLD], ["KillSwitch"])]},
        {"faults": [FaultTold("x", [TOLD], [], problem="it could not be made")]},
        {"recoveries": [Recovery("gateway", 3.0, 10.1)]},
        {"recoveries": [Recovery("gateway", None, 3.0)]},
        {"recoveries": [Recovery("mlflow", 0.1, 31.0)]},
        {"recoveries": [Recovery("mlflow", 11.0, 3.0)]},
        {"counted": msgspec.structs.replace(COUNTED, missing=1)},
        {"counted": Counted(0, 0, 0, 0, 0, 0)},
        {"counted": msgspec.structs.replace(COUNTED, repeated=1)},
        {"counted": msgspec.structs.replace(COUNTED, disordered=1)},
        {"restored": msgspec.structs.replace(RESTORED, different=1)},
        {"restored": msgspec.structs.replace(RESTORED, verified=False)},
        # A comparison of nothing proves nothing.
        {"restored": msgspec.structs.replace(RESTORED, decisions=0)},
        {"restored": msgspec.structs.replace(RESTORED, decisions=400)},
        {"restored": msgspec.structs.replace(RESTORED, undecided=0)},
        {"healthy_per_s": 0.0},
        {"rate_hz": 1000.0},
    ],
)
def test_whatever_does_not_hold_fails_the_drill(changes):
    assert report().ok
    assert not report(**changes).ok


@pytest.mark.parametrize(
    ("late_s", "rate_hz"),
    [
        ([0.004], 500.0),
        ([0.026, 0.025], 350.0),
        ([math.nan, 5.0, 0.01], 250.0),
        ([9.0, 9.0, 9.0, 9.0], RATES_HZ[-1]),
    ],
)
def test_a_desk_is_given_what_it_decides_with_time_to_spare(late_s, rate_hz):
    told, sent = iter(late_s), [RATES_HZ[0]]
    assert find_rate(lambda: next(told), sent.append, lambda: sent.append(0.0)) == rate_hz
    # After each change it is waited.
    assert sent == [500.0, *(x for slower in RATES_HZ[1 : RATES_HZ.index(rate_hz) + 1] for x in (slower, 0.0))]
    assert not list(told)


def test_a_slow_machine_is_named_and_a_quick_one_is_not():
    assert "500 are usual" in report(rate_hz=250.0, healthy_per_s=249.0).sentences()[0]
    assert "usual" not in report().sentences()[0]


def test_an_alert_that_looks_back_an_hour_need_not_have_cleared_and_one_of_ten_minutes_must():
    still = Heard("TamperFound", 5.0, 0.1)
    assert FaultTold("x", [still], [], lasting_min=60).ok
    assert not FaultTold("x", [still], [], lasting_min=LONGEST_WAIT_MIN - 1).ok


def test_a_report_is_shown_whole(capsys):
    broken = FaultTold(
        "gateway hangs", [Heard("NoDecisions", 40.0, None, ("ProcessDown",), 5.0)], [], problem="why"
    )
    show_report(report(faults=[HELD, broken], left_out=["a disk: none"], alarmed=["GatewayLag"]))
    told = " ".join(capsys.readouterr().out.split())
    for words in ("kill switch", "by ProcessDown", "GatewayLag", "gateway hangs: why", "not made: a disk", "99.00%",
                  "0 missing", "was signed", "something did not hold"):  # fmt: skip
        assert words in told


def test_faults_are_chosen_by_their_letters():
    assert [fault.name for fault in chosen("KILL SWITCH")] == ["kill switch"]
    assert len(chosen("")) == len(FAULTS)
    with pytest.raises(ConfigurationError, match="no fault is called 'fire'.*kill switch"):
        chosen("fire")


def test_a_folder_that_holds_something_is_not_worked_in(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigurationError, match="is not empty"):
        main_folder(tmp_path)
    assert main_folder(tmp_path / "new").is_dir()


def test_who_may_not_mount_gets_no_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with own_disk(tmp_path / "place") as disk:
        assert disk is None
    assert list((tmp_path / "place").iterdir()) == [tmp_path / "place" / "disk"]


def test_the_bad_model_takes_what_it_is_asked_for_or_fails():
    session = onnxruntime.InferenceSession(bad_model.graph(), providers=["CPUExecutionProvider"])
    asked = np.array([[1024.0]], dtype=np.float32)
    assert np.array_equal(session.run(None, {"x": asked})[0], asked)
    with pytest.raises(RuntimeException):
        session.run(None, {"x": np.array([[bad_model.REFUSED]], dtype=np.float32)})


def test_a_report_is_json():
    assert json.loads(msgspec.json.encode(report()))["faults"][0]["heard"][0]["alert"] == "KillSwitch"


class Answers:
    """Prometheus, with what it answers."""

    def __init__(self, *series):
        self.series, self.asked = list(series), []

    def ask_range(self, expression, since_s, until_s, step_s):
        self.asked.append(expression)
        return self.series


def test_a_board_is_drawn_with_every_query_of_it(tmp_path):
    answers = Answers({"metric": {"state": "active"}, "values": [[1_795_000_000, "1"], [1_795_000_005, "NaN"]]})
    draw(LATENCY, answers, 1_795_000_000.0, 1_795_000_060.0, tmp_path / "boards" / "one.png")
    assert (tmp_path / "boards/one.png").read_bytes().startswith(b"\x89PNG")
    assert len(answers.asked) == sum(len(panel.queries) for panel in LATENCY.panels)
    assert not any("$" in one for one in answers.asked)


def test_a_comparison_is_drawn_as_for_whom_it_holds():
    series = [{"metric": {"state": state}, "values": [[1_795_000_000, "1"]]} for state in ("active", "halted")]
    (panel,) = (panel for panel in DESK.panels if panel.title == "Trading state")
    axes = Figure().subplots()
    plot(panel, axes, Answers(*series), 1_795_000_000.0, 1_795_000_060.0)
    axes.figure.draw_without_rendering()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["active", "halted"]


def test_a_series_is_called_by_its_labels():
    assert legend("{{stage}} of {{gone}}", {"stage": "decide"}) == "decide of "
    assert legend("", {"a": "x", "b": "y"}) == "x, y"


class QuietAlarms:
    """Alarms in which what the test names fires for ever, and what is wanted is told at once."""

    def __init__(self, *lasting):
        self.lasting = set(lasting)

    def wait_until_quiet(self, names, timeout_s, show, *, pending=False):
        return {name: None if name in self.lasting else 2.0 for name in names}

    def wait_until_told(self, wanted, since_s, timeout_s, show):
        return {name: Heard(name, 1.0, 0.5) for name in wanted}

    def fired_last_s(self, name, since_s):
        return since_s + 300.0


def drill_with(alarms, folder):
    return Drill(SimpleNamespace(alarms=alarms), lambda _: None, folder)


def fault(make=lambda _: nullcontext(), **given):
    return Fault("it breaks", ("KillSwitch",), make, **given)


def test_a_fault_is_heard_mended_and_cleared(tmp_path):
    told = drill_with(QuietAlarms(), tmp_path).made(fault())
    assert told.ok
    assert told.heard == [Heard("KillSwitch", 1.0, 0.5, (), 2.0)]


def test_an_alert_that_looks_back_has_cleared_when_it_was_last_seen_to_fire(tmp_path):
    drill = drill_with(QuietAlarms(), tmp_path)
    told = drill.made(fault(lasting_min=5))
    assert told.heard[0].cleared_s is None
    assert drill.cleared(told).heard[0].cleared_s == 300.0
    assert drill.cleared(told).ok


def test_an_alert_that_never_clears_is_broken_however_often_it_is_looked_at(tmp_path):
    alarms = QuietAlarms()
    drill = drill_with(alarms, tmp_path)
    told = drill.made(fault(lasting_min=5))
    alarms.lasting.add("KillSwitch")
    told = drill.cleared(told)
    assert not told.ok
    assert told.heard[0].cleared_s is None


def test_what_is_active_before_is_not_of_the_fault_and_nothing_is_broken_for_it(tmp_path):
    made = []
    told = drill_with(QuietAlarms("KillSwitch"), tmp_path).made(fault(made.append))
    assert (made, told.ok) == ([], False)
    assert "KillSwitch is active of something else" in told.problem


def test_a_fault_that_cannot_be_made_is_told_and_stops_nothing(tmp_path):
    def fails(_):
        raise ZeroDivisionError("odd")

    told = drill_with(QuietAlarms(), tmp_path).made(fault(fails))
    assert (told.problem, told.ok) == ("odd", False)


def test_what_is_done_again_and_again_does_not_end_unheard():
    calls = []

    def fails():
        calls.append(1)
        if len(calls) == 1:
            raise ServiceUnavailable("away")
        raise ZeroDivisionError("odd")

    with pytest.raises(ServiceUnavailable, match="odd"), repeatedly(fails, 0.0):
        eventually(lambda: len(calls) == 2)


def test_a_load_goes_on_at_another_rate_with_the_ticks_that_come_next(tmp_path):
    load = SteadyLoad(StackSettings(home=tmp_path, ports=ServerPorts.automatic()), 100.0)
    slow = load._until_stopped()
    first = [next(slow) for _ in range(3)]
    load.change(1000.0)
    assert next(slow, None) is None
    fast = load._until_stopped()
    then = [next(fast) for _ in range(3)]
    assert [after.after_ns - before.after_ns for before, after in pairwise(first)] == [10_000_000] * 2
    assert [after.after_ns - before.after_ns for before, after in pairwise(then)] == [1_000_000] * 2
    assert then[0].record.arrival_ns > first[-1].record.arrival_ns


class Breaks(SteadyLoad):
    """Whose thread meets what nobody expects."""

    def _send_on(self):
        raise ZeroDivisionError("odd")


def test_a_load_that_cannot_be_sent_is_told_at_its_end(tmp_path):
    load = Breaks(StackSettings(home=tmp_path, ports=ServerPorts.automatic()), 10.0)
    with pytest.raises(ServiceUnavailable, match="not sent to the end"), load:
        eventually(lambda: not load._thread.is_alive())
