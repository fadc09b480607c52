"""Calls that are late are left to themselves: the server sees none cancelled, and there are never many."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from connectors.triton import inferring
from connectors.triton.errors import Meaning, NoAnswerInTime, meaning
from connectors.triton.inferring import MOST_HELD, MOST_LEFT, Infer
from tests.waiting import eventually


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers a request with its own name, once it may; counts what was cancelled."""

    def __init__(self):
        self.may_answer = threading.Event()
        self.asked, self.ended, self.chosen = [], [], []

    def answer_only(self, *names):
        """These, and whoever comes later."""
        self.chosen += [*names, "next"]

    def ModelInfer(self, request, context):  # noqa: N802 - Triton's name
        self.asked.append(request.model_name)
        context.add_callback(lambda: self.ended.append((request.model_name, context.code())))
        if request.model_name == "wrong":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such model")
        while not self.may_answer.wait(0.01) and request.model_name not in self.chosen:
            pass
        # Of one that was cancelled gRPC takes no answer any more.
        self.ended.append((request.model_name, "answered" if context.is_active() else "cancelled"))
        return service_pb2.ModelInferResponse(model_name=request.model_name)


@contextmanager
def serving(port=0):
    server, answers = grpc.server(ThreadPoolExecutor(32)), Server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(answers, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield answers, f"127.0.0.1:{bound}"
    finally:
        answers.may_answer.set()
        server.stop(0).wait()


def asking(infer, name, timeout_s=10.0):
    return infer(service_pb2.ModelInferRequest(model_name=name), timeout_s).model_name


def leaving_as_many_as_it_may(server, address):
    infer = Infer(address)
    for number in range(MOST_LEFT):
        with pytest.raises(NoAnswerInTime):
            asking(infer, str(number), 0.02)
    eventually(lambda: len(server.asked) == MOST_LEFT)
    return infer


def test_who_is_late_is_not_cancelled_and_his_answer_is_nobodys():
    with serving() as (server, address):
        infer = Infer(address)
        with pytest.raises(NoAnswerInTime, match="no answer within 20 ms") as late:
            asking(infer, "first", 0.02)
        assert meaning(late.value) is Meaning.TIMED_OUT
        eventually(lambda: server.asked == ["first"])
        server.may_answer.set()
        assert asking(infer, "second") == "second"
        eventually(lambda: ("first", "answered") in server.ended)
        infer.close()
    assert "cancelled" not in [how for _, how in server.ended]


def test_a_call_that_was_begun_is_waited_for_later_and_one_too_many_is_refused_at_once():
    with serving() as (server, address):
        infer = Infer(address)
        calls = [infer.begin(service_pb2.ModelInferRequest(model_name=f"call {k}")) for k in range(MOST_LEFT)]
        for call in calls:
            with pytest.raises(NoAnswerInTime, match="no answer within 10 ms"):
                infer.finish(call, 0.01)
        with pytest.raises(NoAnswerInTime, match=f"{MOST_LEFT} earlier calls are not answered yet"):
            infer.begin(service_pb2.ModelInferRequest(model_name="one too many"))
        server.may_answer.set()
        eventually(lambda: all(call.done() for call in calls))
        last = infer.begin(service_pb2.ModelInferRequest(model_name="last"))
        assert infer.finish(last, 10.0).model_name == "last"
        infer.close()
    assert "one too many" not in server.asked
    assert "cancelled" not in [how for _, how in server.ended]


def test_no_more_than_some_are_left_and_the_next_waits_for_the_first_of_them():
    with serving() as (server, address):
        infer = leaving_as_many_as_it_may(server, address)
        for _ in range(3):
            with pytest.raises(NoAnswerInTime, match=f"{MOST_LEFT} earlier calls are not answered yet"):
                asking(infer, "one too many", 0.02)
        with ThreadPoolExecutor(1) as beside:
            waits = beside.submit(asking, infer, "next")
            server.may_answer.set()
            assert waits.result(10.0) == "next"
        assert "one too many" not in server.asked
        infer.close()
    assert "cancelled" not in [how for _, how in server.ended]


def test_calls_that_are_stuck_do_not_keep_others_from_being_tried_and_are_bounded(monkeypatch):
    monkeypatch.setattr(inferring, "STUCK_S", 0.05)
    with serving() as (server, address):
        infer = Infer(address)
        for number in range(3 * MOST_HELD):
            with pytest.raises(NoAnswerInTime):
                asking(infer, str(number), 0.06)
        # One that came while all were held was never asked.
        assert MOST_LEFT < len(server.asked) <= MOST_HELD
        server.may_answer.set()
        assert asking(infer, "next") == "next"
        infer.close()
    assert "cancelled" not in [how for _, how in server.ended]


@pytest.mark.parametrize("leap_s", [-3600.0, 3600.0])
def test_a_wall_clock_that_leaps_makes_no_call_late_and_none_endless(monkeypatch, leap_s):
    with serving() as (server, address):
        infer = Infer(address)
        server.may_answer.set()
        assert asking(infer, "first") == "first"
        server.may_answer.clear()
        real = time.time
        leaps_s = time.monotonic() + 0.1
        monkeypatch.setattr(time, "time", lambda: real() + (leap_s if time.monotonic() > leaps_s else 0.0))
        answers = threading.Timer(1.0, server.may_answer.set)
        answers.start()
        if leap_s < 0:
            # By the wall clock its time would end in an hour, and the answer come before.
            with pytest.raises(NoAnswerInTime):
                asking(infer, "late", 0.3)
        else:
            assert asking(infer, "in time", 30.0) == "in time"
        answers.join()
        monkeypatch.undo()
        infer.close()


def test_where_as_many_are_held_as_may_be_any_of_them_makes_room(monkeypatch):
    monkeypatch.setattr(inferring, "MOST_HELD", MOST_LEFT)
    with serving() as (server, address), ThreadPoolExecutor(1) as beside:
        infer = leaving_as_many_as_it_may(server, address)
        waits = beside.submit(asking, infer, "next")
        server.answer_only("1")
        assert waits.result(10.0) == "next"
        infer.close()


def test_a_refusal_and_a_server_that_is_away_are_told_at_once_and_leave_nothing():
    with serving() as (server, address):
        server.may_answer.set()
        infer = Infer(address)
        for _ in range(2 * MOST_LEFT):
            with pytest.raises(grpc.RpcError) as refused:
                asking(infer, "wrong")
            assert refused.value.details() == "no such model"
    for _ in range(2 * MOST_LEFT):
        with pytest.raises(grpc.RpcError) as away:
            asking(infer, "first")
        assert meaning(away.value) is Meaning.DOWN
    port = int(address.rpartition(":")[2])
    with serving(port) as (server, _):
        server.may_answer.set()

        def answers():
            try:
                return asking(infer, "again") == "again"
            except grpc.RpcError:
                return False

        eventually(answers)
        infer.close()


def test_calls_that_a_server_took_to_its_end_make_room():
    with serving() as (server, address):
        infer = leaving_as_many_as_it_may(server, address)
    with pytest.raises(grpc.RpcError) as away:
        asking(infer, "after it")
    assert meaning(away.value) is Meaning.DOWN
    infer.close()


def test_a_closing_waits_for_what_was_left_and_not_for_ever():
    with serving() as (server, address):
        infer = Infer(address)
        with pytest.raises(NoAnswerInTime):
            asking(infer, "first", 0.02)
        eventually(lambda: server.asked == ["first"])
        began = time.monotonic()
        closing = threading.Thread(target=infer.close)
        closing.start()
        server.may_answer.set()
        closing.join(10.0)
        assert not closing.is_alive()
        eventually(lambda: ("first", "answered") in server.ended)
    with serving() as (server, address):
        infer = Infer(address)
        with pytest.raises(NoAnswerInTime):
            asking(infer, "first", 0.02)
        infer.close()
        assert time.monotonic() - began < 30.0
