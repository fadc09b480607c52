"""What a Triton that has just started is asked for, and in which order."""

from __future__ import annotations

import threading

import pytest

from connectors.triton.errors import InferenceServerException
from stack.servers.model_loads import ModelLoads, in_order
from tests.waiting import eventually

RELEASED = ["meta_controller", "own_model", "strategy_signals", "trading_decision", "trading_decision_fused"]


class Server:
    """Loads what it is let load."""

    def __init__(self):
        self.asked, self.failing = [], set()
        self.may = {name: threading.Event() for name in RELEASED}

    def load(self, name):
        self.asked.append(name)
        assert self.may[name].wait(20)
        if name in self.failing:
            raise InferenceServerException("no such file")


@pytest.fixture
def server():
    made = Server()
    yield made
    for event in made.may.values():
        event.set()


def test_who_decides_comes_first_and_an_ensemble_after_its_steps():
    assert in_order(RELEASED, "trading_decision_fused") == [
        ["trading_decision_fused"], ["meta_controller"], ["own_model"], ["strategy_signals"], ["trading_decision"]
    ]  # fmt: skip
    assert in_order(RELEASED, "trading_decision") == [
        ["meta_controller", "strategy_signals"], ["trading_decision"], ["own_model"], ["trading_decision_fused"]
    ]  # fmt: skip
    everything = [
        ["meta_controller", "own_model", "strategy_signals", "trading_decision_fused"],
        ["trading_decision"],
    ]
    assert in_order(RELEASED, "") == in_order(RELEASED, "another") == everything
    assert in_order([], "trading_decision") == []


@pytest.mark.parametrize(
    ("decides", "first"),
    [
        ("trading_decision_fused", ["trading_decision_fused"]),
        ("trading_decision", ["meta_controller", "strategy_signals", "trading_decision"]),
        ("", RELEASED),
        ("not_released", RELEASED),
    ],
)
def test_what_the_desk_decides_by_is_waited_for_and_all_where_that_is_not_known(server, decides, first):
    loads = ModelLoads(server.load, lambda: RELEASED, decides)
    assert loads.left({}) == first
    for name in first:
        server.may[name].set()
    eventually(lambda: loads.left({}) == [])
    others = [name for name in RELEASED if name not in first]
    assert loads.troubles() == ([f"loads {', '.join(others)}"] if others else [])


def test_a_new_server_is_asked_for_all_that_was_released_group_by_group(server):
    loads = ModelLoads(server.load, lambda: RELEASED, "trading_decision_fused")
    nothing = {name: [""] for name in RELEASED}
    assert loads.left(nothing) == ["trading_decision_fused"]
    eventually(lambda: server.asked == ["trading_decision_fused"])
    server.may["trading_decision_fused"].set()
    eventually(lambda: server.asked[1:] == ["meta_controller"])
    assert loads.left(nothing) == []
    # One that does not load keeps nobody else away.
    server.failing.add("own_model")
    for event in server.may.values():
        event.set()
    eventually(lambda: loads.troubles() == ["does not load own_model: no such file"])
    assert server.asked[-1] == "trading_decision"
    # Only once: what somebody unloads afterwards stays unloaded.
    assert loads.left(nothing) == []
    assert len(server.asked) == 5


def test_what_is_there_or_was_unloaded_or_does_not_load_is_left_as_it_is(server):
    loads = ModelLoads(server.load, lambda: RELEASED)
    states = {
        "meta_controller": ["READY"], "own_model": ["UNAVAILABLE"], "trading_decision": ["LOADING"],
        "trading_decision_fused": ["UNAVAILABLE", "READY"],
    }  # fmt: skip
    assert loads.left(states) == ["strategy_signals", "trading_decision"]
    eventually(lambda: server.asked == ["strategy_signals"])
    server.may["strategy_signals"].set()
    eventually(lambda: loads.left(states) == ["trading_decision"])
    # Whoever asked for that one: it is waited for as long as it loads.
    assert loads.left(states | {"trading_decision": ["UNAVAILABLE"]}) == []
    assert server.asked == ["strategy_signals"]


def test_whatever_goes_wrong_nobody_waits_for_what_nobody_loads(server):
    def broken(_):
        raise ValueError("a closed channel")

    loads = ModelLoads(broken, lambda: RELEASED)
    assert loads.left({}) in (RELEASED, [])
    eventually(lambda: loads.left({}) == [])
    assert loads.troubles() == [f"does not load {name}: a closed channel" for name in sorted(RELEASED)]
    # Whoever has it loaded since has mended it.
    loads.left({name: ["UNAVAILABLE", "READY"] for name in RELEASED})
    assert loads.troubles() == []


def test_a_repository_that_cannot_be_read_is_asked_again():
    answers = iter([OSError("no such folder"), ["own_model"]])

    def released():
        if isinstance(found := next(answers), OSError):
            raise found
        return found

    loads = ModelLoads(lambda _: None, released)
    with pytest.raises(OSError, match="no such folder"):
        loads.left({})
    loads.left({})
    eventually(lambda: loads.left({"own_model": ["READY"]}) == [])


def test_a_server_that_died_while_it_loaded_is_asked_anew_and_its_rest_is_dropped(server):
    loads = ModelLoads(server.load, lambda: RELEASED, "trading_decision_fused")
    loads.left({})
    eventually(lambda: server.asked == ["trading_decision_fused"])
    loads.start_anew()
    loads.left({})
    eventually(lambda: server.asked == ["trading_decision_fused"] * 2)
    for event in server.may.values():
        event.set()
    eventually(lambda: loads.troubles() == [])
    assert sorted(server.asked) == sorted([*RELEASED, "trading_decision_fused"])
