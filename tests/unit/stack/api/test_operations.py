"""Commands that are begun over HTTP: one of a kind at a time, kept, waited for, cancelled."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from stack.api.operations import InTheWay, Operations, Step
from tests.signals import handled
from tests.waiting import eventually
from trading.errors import ServiceUnavailable

#: What stands for our program: does what its words say.
PROGRAM = """
import json, sys, time
for word in sys.argv[1:]:
    name, _, value = word.partition("=")
    if name == "sleep":
        time.sleep(float(value))
    elif name == "say":
        print(json.dumps(value))
    elif name == "mutter":
        print(value, file=sys.stderr)
    elif name == "exit":
        sys.exit(int(value))
    elif name == "raw":
        print(value)
"""


@pytest.fixture
def begun(tmp_path):
    made = Operations(tmp_path, [sys.executable, "-c", PROGRAM])
    yield made
    made.close()


def over(operations, name, seconds=20):
    """An operation, once it is over."""
    eventually(lambda: operations.get(name).state != "running", seconds)
    return operations.get(name)


def test_a_command_runs_and_what_it_printed_is_kept(begun, tmp_path):
    one = begun.start("restart", "gateway", [Step(["mutter=looking", "say=done"])], "why", "me")
    assert one.state == "running"
    done = over(begun, one.id, 20)
    assert (done.state, done.exit_code, done.results, done.log) == ("done", 0, ["done"], ["looking"])
    assert (done.reason, done.by, done.subject) == ("why", "me", "gateway")
    assert done.ended_s >= done.began_s
    # Another server of the same folder knows it too.
    assert Operations(tmp_path).get(one.id) == done


def test_a_step_that_fails_is_the_last(begun):
    one = begun.start("release", "m 1", [Step(["say=no", "exit=1"], (0, 3)), Step(["say=never"])], "why", "")
    done = over(begun, one.id, 20)
    assert (done.state, done.exit_code, done.results) == ("failed", 1, ["no"])


def test_a_step_may_end_otherwise_where_that_lets_the_next_begin(begun):
    steps = [Step(["say=cannot tell", "exit=3"], (0, 3)), Step(["say=released"])]
    done = over(begun, begun.start("release", "m 1", steps, "why", "").id, 20)
    assert (done.state, done.results) == ("done", ["cannot tell", "released"])


def test_one_of_a_kind_at_a_time(begun):
    one = begun.start("loadtest", "kafka", [Step(["sleep=30"])], "why", "")
    with pytest.raises(InTheWay, match=one.id):
        begun.start("loadtest", "triton", [Step(["say=x"])], "why", "")
    assert over(begun, begun.start("restart", "redis", [Step(["say=x"])], "why", "").id, 20).state == "done"
    begun.cancel(one.id)
    assert over(begun, one.id, 20).state == "cancelled"
    assert over(begun, begun.start("loadtest", "triton", [Step(["say=x"])], "why", "").id, 20).state == "done"


def test_what_is_cancelled_ends_and_a_later_step_does_not_begin(begun, tmp_path):
    mark = tmp_path / "mark"
    one = begun.start("release", "m 1", [Step(["sleep=60"], (0, 1, 130, -15)), Step([f"say={mark}"])], "why", "")
    eventually(lambda: one.id in begun._processes)
    begun.cancel(one.id)
    done = over(begun, one.id, 30)
    assert done.state == "cancelled"
    assert done.results == []


@pytest.fixture
def in_the_background():
    """As a shell that has no terminal starts what it puts in the background."""
    with handled(signal.SIGINT, signal.SIG_IGN):
        yield


@pytest.mark.usefixtures("in_the_background")
def test_what_is_cancelled_is_asked_and_not_killed_where_ctrl_c_is_ignored(begun):
    one = begun.start("release", "m 1", [Step(["sleep=60"])], "why", "")
    eventually(lambda: one.id in begun._processes)
    begun.cancel(one.id)
    done = over(begun, one.id, 30)
    assert (done.state, done.exit_code) == ("cancelled", -signal.SIGTERM)


def test_what_is_no_document_is_kept_as_text(begun):
    done = over(begun, begun.start("restart", "x", [Step(["raw=not json {"])], "why", "").id, 20)
    assert done.results == [{"printed": "not json {\n"}]


def test_what_ran_when_the_server_ended_is_failed(begun, tmp_path):
    one = begun.start("loadtest", "kafka", [Step(["sleep=60"])], "why", "")
    again = Operations(tmp_path)
    assert again.get(one.id).state == "failed"
    assert "ended meanwhile" in again.get(one.id).log[0]


def test_what_cannot_be_started_is_over_and_keeps_nobody_away(begun):
    one = begun.start("restart", "x", [Step(["say=a\0b"])], "why", "")
    assert over(begun, one.id, 20).state == "failed"
    assert over(begun, begun.start("restart", "x", [Step(["say=y"])], "why", "").id, 20).state == "done"


def test_a_cancel_before_its_command_begins_is_heard(begun):
    one = begun.start("loadtest", "kafka", [Step(["sleep=0.3"]), Step(["sleep=30"])], "why", "")
    begun.cancel(one.id)
    done = over(begun, one.id, 20)
    assert done.state == "cancelled"


@pytest.mark.parametrize("name", ["", "x", "../../secrets/redis", "a" * 32, "A" * 32, "0" * 32 + "\n"])
def test_an_id_that_is_none_is_nothing(begun, name):
    assert begun.get(name) is None
    begun.cancel(name)


def test_a_question_is_answered_or_refused_with_what_was_said(begun):
    assert begun.ask([f"say={json.dumps([1])}"]) == "[1]"
    with pytest.raises(ServiceUnavailable, match="it is broken"):
        begun.ask(["mutter=it is broken", "exit=2"])


def test_only_so_many_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("stack.api.operations.KEEP", 3)
    made = Operations(tmp_path, [sys.executable, "-c", PROGRAM])
    ids = [over(made, made.start("restart", str(k), [Step(["say=x"])], "why", "").id, 20).id for k in range(5)]
    assert eventually(lambda: {one.id for one in made.listed()} == set(ids[-3:]))
    assert eventually(lambda: len(list((tmp_path / "run" / "operations").iterdir())) == 6)


def test_a_disk_that_is_full_blocks_no_kind_and_hides_no_end(tmp_path, monkeypatch):
    def told(_):
        raise OSError(28, "No space left on device")

    made = Operations(tmp_path, [sys.executable, "-c", PROGRAM], told)
    real = made._keep

    def keep(one):
        if one.state != "running":
            raise OSError(28, "No space left on device")
        real(one)

    monkeypatch.setattr(made, "_keep", keep)
    first = made.start("restart", "x", [Step(["say=a"])], "why", "")
    assert over(made, first.id).state == "done"
    assert over(made, made.start("restart", "x", [Step(["say=b"])], "why", "").id).results == ["b"]
    assert {one.state for one in made.listed()} == {"done"}
