"""Once a day all of a trail is verified; what is found becomes alarms, and what fails is tried again."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import pytest
from pydantic import ValidationError

from services.forensics import daily_verification
from services.forensics.checkpoint_files import Acceptance, CheckpointFiles
from services.forensics.daily_verification import (
    HOUR_S,
    MOST_ALARMS,
    SETTLED_S,
    VERIFIED,
    DailyVerification,
    Verified,
    by_process,
    is_due,
    last_verified,
)
from services.forensics.findings import Finding
from services.forensics.ports import LogName, Observer
from services.forensics.settings import ForensicsSettings
from services.forensics.verification import LogVerdict, Verification
from tests.paths import ROOT
from tests.waiting import eventually
from trading.encoding import encode
from trading.errors import ServiceUnavailable

THREE, DAY_S = 3 * 3600, 86_400
#: A midnight, and times of that day.
DAY = 1_764_633_600.0
LOG = LogName("id", 0, "trading.decisions")
HOLDS = Verification(9, [LogVerdict("a", 70, 70), LogVerdict("b", 30, 20)], [])


def hour(hours, day=0):
    return DAY + day * DAY_S + hours * 3600


def ended(at_s, findings=0):
    return Verified(int(at_s * 1e9), int(at_s * 1e9) + 1, 5, findings)


@pytest.mark.parametrize(
    ("now_s", "last", "wanted"),
    [
        pytest.param(hour(9), None, True, id="there was none"),
        pytest.param(hour(9), ended(hour(3)), False, id="done this night"),
        pytest.param(hour(2.99, 1), ended(hour(3)), False, id="a little before the next"),
        pytest.param(hour(3, 1), ended(hour(3)), True, id="the next night"),
        pytest.param(hour(9), ended(hour(2.9)), True, id="missed this night"),
        pytest.param(hour(9), ended(hour(3, -9)), True, id="missed for days"),
        pytest.param(hour(9), ended(hour(3, 400)), True, id="by a clock that was ahead"),
        pytest.param(hour(9), Verified(0, int(hour(8) * 1e9), 0, 0), True, id="only wanted"),
    ],
)
def test_it_begins_at_its_hour_and_what_was_missed_is_made_up_for(now_s, last, wanted):
    assert is_due(now_s, THREE, last) is wanted


class Watching(Observer):
    def __init__(self):
        self.told = []

    def verified(self, ended_ns, findings):
        self.told.append((ended_ns, findings))


class Life:
    """A clock, and verifications that come out as they are told to."""

    def __init__(self, folder, outcome=HOLDS):
        self.now_s, self.clock_s, self.outcome, self.looks, self.observer = hour(9), 50.0, outcome, 0, Watching()
        self.daily = DailyVerification(
            self.look, folder, self.observer, THREE, lambda: self.now_s, lambda: self.clock_s
        )

    def look(self, _):
        self.looks += 1
        self.now_s += 30
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def test_one_that_holds_is_told_and_known_to_the_next_life(tmp_path):
    life = Life(tmp_path)
    life.daily.once()
    assert life.observer.told == [(int((hour(9) + 30) * 1e9), 0)]
    assert life.daily.alarms() == []
    assert last_verified(tmp_path) == Verified(int(hour(9) * 1e9), int((hour(9) + 30) * 1e9), 100, 0)
    second = Life(tmp_path)
    second.daily.start()()
    assert second.observer.told == life.observer.told
    assert second.looks == 0


def test_each_finding_is_an_alarm_with_its_place_and_of_very_many_the_first_are(tmp_path):
    many = [
        Finding("altered", f"record {k}", "other bytes", LOG, k, k, 10 + k, 10 + k) for k in range(MOST_ALARMS + 7)
    ]
    life = Life(tmp_path, Verification(9, [], [Finding("checkpoint", "checkpoint 4", "it is torn"), *many]))
    life.daily.once()
    alarms = life.daily.alarms()
    assert {alarm.kind for alarm in alarms} == {"not_as_signed"}
    assert (alarms[0].detail, alarms[0].name, alarms[0].offset) == (
        "checkpoint: checkpoint 4: it is torn",
        None,
        None,
    )
    assert (alarms[1].detail, alarms[1].name, alarms[1].offset) == ("altered: record 0: other bytes", LOG, 10)
    assert len(alarms) == MOST_ALARMS + 1
    assert alarms[-1].detail.startswith("so are 8 more places")
    assert life.daily.alarms() == []
    assert life.observer.told[0][1] == MOST_ALARMS + 8
    assert last_verified(tmp_path).findings == MOST_ALARMS + 8


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(daily_verification, "LOOK_S", 0.001)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "failure", [ServiceUnavailable("no PostgreSQL"), OSError("no program"), RuntimeError("a fault")]
)
def test_what_fails_counts_not_and_is_tried_again_in_an_hour(tmp_path, failure):
    life = Life(tmp_path, failure)
    close = life.daily.start()
    wanted = [(int(hour(9) * 1e9), 0)]
    try:
        # A wall clock that leaps makes nothing due before its time.
        life.clock_s, life.now_s = 50.0 + SETTLED_S - 1, hour(9, 40)
        time.sleep(0.05)
        assert life.looks == 0
        life.clock_s, life.now_s = 50.0 + SETTLED_S, hour(9)
        eventually(lambda: life.looks == 1)
        time.sleep(0.05)
        assert (life.looks, life.observer.told, last_verified(tmp_path).began_ns) == (1, wanted, 0)
        life.outcome = HOLDS
        life.clock_s += HOUR_S
        eventually(lambda: len(life.observer.told) == 2)
        assert life.looks == 2
    finally:
        close()


def test_since_when_one_is_wanted_is_known_over_restarts(tmp_path):
    first = Life(tmp_path, ServiceUnavailable("no PostgreSQL"))
    first.daily.once()
    second = Life(tmp_path)
    second.now_s = hour(9, 3)
    second.daily.start()()
    assert second.observer.told == [(int(hour(9) * 1e9), 0)]


@pytest.mark.usefixtures("quick")
def test_what_was_found_in_an_earlier_life_is_told_and_looked_at_again(tmp_path):
    Life(tmp_path, Verification(9, [], [Finding("checkpoint", "checkpoint 4", "it is torn")])).daily.once()
    life = Life(tmp_path)
    life.now_s = hour(10)
    close = life.daily.start()
    try:
        assert life.observer.told[0][1] == 1
        life.clock_s += SETTLED_S
        eventually(lambda: life.looks == 1)
        assert life.observer.told[1][1] == 0
    finally:
        close()


def test_a_folder_that_takes_nothing_does_not_keep_what_was_found(tmp_path):
    (tmp_path / "gone").write_text("a file")
    life = Life(tmp_path / "gone", Verification(9, [], [Finding("checkpoint", "checkpoint 4", "it is torn")]))
    life.daily.once()
    assert len(life.daily.alarms()) == 1
    assert life.observer.told[-1][1] == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"began_ns":"x"}', b"\xff\x00", b"[]", b'{"began_ns":1e400}'])
def test_what_is_no_record_of_one_is_as_if_there_was_none(tmp_path, content):
    (tmp_path / VERIFIED).write_bytes(content)
    assert last_verified(tmp_path) is None


def printing(text, code=0, said="error: because"):
    program = f"import sys; sys.stdout.write({text!r}); sys.stderr.write({said!r}); sys.exit({code})"
    return [sys.executable, "-c", program]


@pytest.mark.parametrize(
    ("found", "code"), [(HOLDS, 0), (Verification(1, [], [Finding("log", "a", "gone", LOG)]), 1)]
)
def test_a_process_tells_what_it_found(found, code):
    assert by_process(printing(encode(found).decode(), code), {})(threading.Event()) == found


def test_one_that_waits_for_a_server_says_nothing_of_the_trail():
    with pytest.raises(ServiceUnavailable, match="exit code 1: error: because"):
        by_process(printing("", 1), {})(threading.Event())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (2, "error: checkpoints-2025-12-02.jsonl cannot be read: Permission denied"),
        (1, "a warning of some library\nerror: PostgreSQL does not answer"), (129, ""), (130, ""), (143, ""),
    ],
)  # fmt: skip
def test_one_that_says_what_keeps_it_from_looking_or_was_ended_is_tried_again(code, said):
    with pytest.raises(ServiceUnavailable, match=f"exit code {code}"):
        by_process(printing("", code, said), {})(threading.Event())


def test_our_own_command_that_is_ended_with_forensics_has_found_nothing(tmp_path):
    """It ends by SIGTERM as by Ctrl-C, with an exit code of its own."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom stack.cli import main\n@main.app.command()\ndef sleep():\n"
        f"    open({str(tmp_path / 'sleeps')!r}, 'w').close()\n    time.sleep(60)\nmain.run()\n"
    )
    look = by_process([sys.executable, str(tmp_path / "slow.py"), "sleep"], {"PYTHONPATH": str(ROOT)})
    daily = DailyVerification(look, tmp_path, Watching(), THREE, lambda: hour(9))
    looking = threading.Thread(target=daily.once)
    looking.start()
    eventually((tmp_path / "sleeps").exists)
    daily._closing.set()
    looking.join(30.0)
    assert not looking.is_alive()
    assert daily.alarms() == []
    assert last_verified(tmp_path).findings == 0


def test_what_is_lost_can_be_accepted_and_what_was_changed_cannot(tmp_path):
    lost, changed = (
        Finding("missing", "records 3 to 9", "10 records were signed", LOG, 3, 9),
        Finding("altered", "record 1", "other", LOG),
    )
    first = Life(tmp_path, Verification(9, [], [lost, changed]))
    first.daily.once()
    for alarm in first.daily.alarms():
        CheckpointFiles(tmp_path).accept(Acceptance(alarm.detail, "ann", "a disk died", 1))
    second = Life(tmp_path, Verification(9, [], [lost, changed]))
    second.daily.once()
    assert [alarm.detail for alarm in second.daily.alarms()] == ["altered: record 1: other"]
    assert last_verified(tmp_path).findings == 1


def test_one_that_is_killed_says_nothing_of_the_trail():
    program = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    with pytest.raises(ServiceUnavailable, match="exit code -9: it says nothing"):
        by_process(program, {})(threading.Event())


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", 0, ""), ("{}", 0, ""), ("", 1, "Traceback: struct.error"), ("{}", 1, "Traceback"),
        (encode(HOLDS).decode() + "x", 0, ""), (encode(HOLDS).decode(), 2, ""), ("", 3, ""),
    ],
)  # fmt: skip
def test_one_that_cannot_look_at_all_has_found_something(text, code, said):
    (finding,) = by_process(printing(text, code, said), {})(threading.Event()).findings
    assert f"exit code {code}: {said or 'it says nothing'}" in finding.detail


def test_a_program_that_is_not_there_is_a_failure_like_any_other(tmp_path):
    daily = DailyVerification(by_process(["/no/such/program"], {}), tmp_path, Watching(), THREE, lambda: hour(9))
    daily.once()
    assert daily.alarms() == []
    assert last_verified(tmp_path).began_ns == 0


def test_a_process_gets_its_environment_yields_and_ends_with_who_began_it(tmp_path):
    told = tmp_path / "told.json"
    program = (
        "import json, os, sys, time\n"
        "time.sleep(0.3)\n"
        "what = [os.environ['WHOSE'], os.getpriority(os.PRIO_PROCESS, 0), os.getpid(), os.getpgid(0)]\n"
        f"open({str(told)!r}, 'w').write(json.dumps(what)); time.sleep(60)"
    )
    closing, failed = threading.Event(), []

    def look():
        try:
            by_process([sys.executable, "-c", program], {"WHOSE": "mine"})(closing)
        except ServiceUnavailable as error:
            failed.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    eventually(lambda: told.exists() and told.read_text())
    whose, nice, pid, group = json.loads(told.read_text())
    closing.set()
    looking.join(30.0)
    assert (whose, nice, group) == ("mine", daily_verification.NICE, os.getpgid(0))
    assert len(failed) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("text", ["24:00", "3:00", "03:60", "", "03:00\n", "always"])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(ValidationError):
        ForensicsSettings(verify_at=text)


def test_who_sees_to_it_himself_is_left_alone():
    command = ["ultrathink"]
    assert daily_verification.of(ForensicsSettings(verify_at="never"), command, Observer()) is None
    assert daily_verification.of(ForensicsSettings(), [], Observer()) is None


def test_it_looks_as_who_records_and_where_the_checkpoints_are(tmp_path):
    program = (
        "import os, sys; sys.stderr.write('error: ' + os.environ['ULTRATHINK_FORENSICS_READER_URL']); sys.exit(1)"
    )
    settings = ForensicsSettings(
        postgres_url="postgresql://recorder@nowhere/x", checkpoints=tmp_path, verify_at="23:59"
    )
    daily = daily_verification.of(settings, [sys.executable, "-c", program], Observer())
    assert last_verified(tmp_path).began_ns == 0
    with pytest.raises(ServiceUnavailable, match="error: postgresql://recorder@nowhere/x"):
        daily._look(threading.Event())
    assert daily._at_s == 23 * 3600 + 59 * 60
