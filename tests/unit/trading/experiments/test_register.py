"""What the log says of experiments is the same to whoever reads it; what is not understood puts the champion back."""

from __future__ import annotations

from copy import deepcopy

import pytest

from trading.control import InForce
from trading.encoding import encode
from trading.events import Command
from trading.experiments.reading import parse
from trading.experiments.register import ExperimentRegister, ExperimentState, ExperimentWord, dividing

TEXT = """\
version: 1
name: {name}
kind: {kind}
{salt}champion: {{model: trading_decision_fused, version: 3}}
challengers:
  - {{arm: fresh, model: trading_decision_fused, version: 4}}
primary: {{effect: 0.2}}
"""


def experiment(name="one", kind="canary", salt="a-salt-of-one", symbols=""):
    lines = (f"salt: {salt}\n" if salt else "") + (f"symbols: [{symbols}]\n" if symbols else "")
    return parse(TEXT.format(name=name, kind=kind, salt=lines))


class Desk:
    """Gives commands to a register, one offset after another."""

    def __init__(self):
        self.register, self.offset = ExperimentRegister(), 0

    def say(self, act, name="one", **given):
        return self.tell(encode(ExperimentWord(act, name, **given)).decode())

    def tell(self, text):
        self.offset += 1
        return self.register.take(self.offset, text, "me", "because", 1000 + self.offset)

    def of(self, name="one"):
        return self.register.experiments[name]


@pytest.fixture
def desk():
    found = Desk()
    assert found.say("create", definition=experiment()) == ""
    return found


def test_the_life_of_a_canary(desk):
    assert (desk.of().state, dividing(desk.register.experiments)) == (ExperimentState.CREATED, ())
    assert desk.say("start") == ""
    # Its shadow runs; nobody's units are divided.
    assert (desk.of().state, dividing(desk.register.experiments)) == (ExperimentState.RUNNING, ())
    assert desk.say("ramp", share=0.05, from_block=100) == ""
    assert desk.say("ramp", share=0.25, from_block=200) == ""
    (one,) = dividing(desk.register.experiments)
    assert [(s.from_block, s.share, s.offset) for s in one.arms.steps] == [(100, 0.05, 3), (200, 0.25, 4)]
    assert one.share == 0.25
    assert desk.say("promote", arm="fresh", overridden=True) == ""
    assert desk.say("stop") == ""
    assert (desk.of().state, desk.of().share, dividing(desk.register.experiments)) == (
        ExperimentState.STOPPED,
        0.0,
        (),
    )
    said = [(s.offset, s.act, s.by, s.share) for s in desk.of().said]
    assert said == [
        (1, "create", "me", 0.0), (2, "start", "me", 0.0), (3, "ramp", "me", 0.05), (4, "ramp", "me", 0.25),
        (5, "promote", "me", 0.0), (6, "stop", "me", 0.0),
    ]  # fmt: skip


def test_what_stopped_it_is_known_until_it_is_started_again(desk):
    assert desk.of().last_stop is None
    desk.say("start")
    desk.say("stop")
    assert (desk.of().last_stop.act, desk.of().last_stop.offset) == ("stop", 3)
    desk.say("start")
    assert desk.of().last_stop is None


def test_a_human_starts_it_again_with_no_share(desk):
    for act in ("start", "stop", "start"):
        assert desk.say(act) == ""
    assert dividing(desk.register.experiments) == ()
    desk.say("ramp", share=0.5, from_block=10)
    desk.say("stop")
    desk.say("start")
    assert dividing(desk.register.experiments) == ()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([("create", {"definition": experiment()})], "one is an experiment already: give this one another name"),
        (
            [("create", {"name": "two", "definition": experiment("two")})],
            "the same units would be treated again; give this one another salt",
        ),
        ([("start", {"name": "xyz"})], "'xyz' is no experiment of this desk: there is one"),
        ([("start", {"name": "onne"})], "'onne' is no experiment of this desk: did you mean one?"),
        ([("start", {}), ("start", {})], "one runs already"),
        ([("stop", {})], "one is created: there is nothing to stop"),
        ([("ramp", {"share": 0.5, "from_block": 1})], "one is created: start it first"),
        ([("promote", {"arm": "other"})], "'other' is no challenger of one: it has fresh"),
        (
            [("start", {}), ("ramp", {"share": 0.1, "from_block": 9}), ("ramp", {"share": 0.2, "from_block": 9})],
            "one has a share of 0.1 from block 9 on: another one from block 9 would move units",
        ),
    ],
)
def test_what_is_refused_changes_nothing(desk, said, why):
    *before, (act, given) = said
    for done, its in before:
        assert desk.say(done, **its) == ""
    was = desk.register.experiments
    assert why in desk.say(act, **given)
    assert desk.register.experiments == was
    assert why in desk.register.refused_of(1000 + desk.offset, "me")
    assert desk.register.refused[-1].offset == desk.offset


def test_a_share_that_is_no_number_is_refused_before_it_is_written(desk):
    desk.say("start")
    for share in (float("nan"), -0.5, 1.5):
        assert "expected one of 0 to 1" in desk.register.why_not(
            ExperimentWord("ramp", "one", share=share, from_block=1)
        )


def test_a_shadow_has_no_share(desk):
    desk.say("create", "calm", definition=experiment("calm", "shadow", salt=""))
    desk.say("start", "calm")
    assert "calm is a shadow: its challengers decide nothing" in desk.say("ramp", "calm", share=0.5, from_block=1)


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        ("", "", "one runs, and divides all units, too"),
        ("A, B", "B", "one runs, and divides units of B, too"),
        ("A", "B", ""),
    ],
)
def test_two_canaries_must_not_divide_the_same_units(one, two, told):
    desk = Desk()
    desk.say("create", definition=experiment(symbols=one))
    desk.say("create", "two", definition=experiment("two", salt="another-salt", symbols=two))
    assert desk.say("start") == ""
    found = desk.say("start", "two")
    assert (told in found) if told else found == ""
    desk.say("stop")
    assert desk.say("start", "two") in {"", "two runs already"}


@pytest.mark.parametrize(
    ("text", "stopped"),
    [
        ('{"act": "hurry", "name": "one"}', ["one"]),
        ('{"act": "stop", "name": "one", "how": "gently"}', ["one"]),
        ('{"act": "ramp", "name": "two", "share": 7}', ["two"]),
        ("not json", ["one", "two"]),
        ('{"name": 5}', ["one", "two"]),
    ],
)
def test_what_is_not_understood_puts_the_champion_back(text, stopped):
    desk = Desk()
    desk.say("create", definition=experiment(symbols="A"))
    desk.say("create", "two", definition=experiment("two", salt="another-salt", symbols="B"))
    for name in ("one", "two"):
        desk.say("start", name)
        desk.say("ramp", name, share=1.0, from_block=1)
    assert "does not understand" in desk.tell(text)
    running = [one.definition.name for one in dividing(desk.register.experiments)]
    assert running == [name for name in ("one", "two") if name not in stopped]


def test_a_definition_in_the_log_is_checked_as_a_file_s_is(desk):
    broken = encode(ExperimentWord("create", "bad", definition=experiment("bad", salt="salt-of-bad"))).decode()
    assert "a canary needs a salt" in desk.tell(broken.replace('"salt":"salt-of-bad",', ""))
    assert "is created with the definition of" in desk.say("create", "other", definition=experiment("bad"))
    assert "a definition belongs to a create" in desk.say("start", definition=experiment())
    assert "bad" not in desk.register.experiments


def test_the_control_topic_carries_it():
    found = InForce()
    for offset, word in enumerate(
        [ExperimentWord("create", "one", experiment()), ExperimentWord("start", "one"),
         ExperimentWord("ramp", "one", share=0.5, from_block=3)]
    ):  # fmt: skip
        payload = encode(Command("experiment", encode(word).decode(), "because", "me", 5))
        assert found.take(offset, payload) is not None
    (one,) = dividing(found.experiments.experiments)
    assert (one.share, found.problem, found.latched) == (0.5, "", None)
    # A stop that cannot be read, for whatever reason, may have been one.
    for broken in (
        b'{"kind":"experiment","value":"{\\"act\\":\\"stop\\"',
        b"\xff",
        b'{"kind":"experiment","value":"","x":1}',
    ):
        copy = InForce()
        copy.experiments = deepcopy(found.experiments)
        copy.take(9, broken)
        assert dividing(copy.experiments.experiments) == ()
    # Of a log that was made anew nothing is known to hold.
    found.take(0, encode(Command("reset", "drawdown", "because", "me", 5)))
    assert dividing(found.experiments.experiments) == ()
    assert found.experiments.experiments["one"].said[-1].act == "stop"
