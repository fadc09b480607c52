"""How calls reach TorchServe in a load test: what goes wrong is told, and a rotated token is none of it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from connectors.triton.asking import ServedTensor
from loadtest.errors import InvalidRun
from loadtest.open_loop.rows import ModelRows
from loadtest.open_loop.transports import TorchServeTransport
from tests.torchserve_fake import FUSED, FakeTorchServe, answers_of

ROWS = ModelRows(
    (ServedTensor("features", "FP32", (32,)),), (np.linspace(-1, 1, 128, dtype=np.float32).reshape(4, 32),)
)


@pytest.fixture
def server():
    one = FakeTorchServe()
    yield one
    one.close()


@pytest.fixture
def transport(server, tmp_path):
    (tmp_path / "token").write_text(server.token)
    one = TorchServeTransport(server.address, tmp_path / "token")
    yield one
    one.close()


def ended(transport, prepared, version=""):
    """What a call that was begun is told in the end."""
    told, done = [], threading.Event()

    def tell(error):
        told.append(error)
        done.set()

    transport.begin(FUSED.name, version, prepared, 5.0, tell)
    assert done.wait(10)
    return told


def test_what_is_served_is_asked_and_answers(transport):
    served = transport.check(FUSED.name, "", 2)
    assert (served.version, served.max_batch) == ("1", FUSED.max_batch_size)
    prepared = transport.prepare(ROWS, 0, 2)
    transport.warm(FUSED.name, "", prepared)
    assert ended(transport, prepared) == [""]


def test_a_token_that_was_rotated_fails_no_call(server, transport, tmp_path):
    prepared = transport.prepare(ROWS, 0, 2)
    assert ended(transport, prepared) == [""]
    server.token = "another"
    (tmp_path / "token").write_text("another")
    assert ended(transport, prepared) == [""]
    server.token = "a third"
    assert "token" in ended(transport, prepared)[0]


def test_refusals_and_rubbish_are_no_answers(server, transport):
    prepared = transport.prepare(ROWS, 0, 2)
    assert ended(transport, prepared, "9") == ["no such model or version"]
    server.versions["1"] = (server.describes("1"), lambda *_: b"rubbish")
    assert "no handler of ours" in ended(transport, prepared)[0]
    with pytest.raises(InvalidRun, match="refuses a call"):
        transport.warm(FUSED.name, "", prepared)


def test_answers_that_are_not_finite_prove_nothing(server, transport):
    server.versions["1"] = (
        server.describes("1"),
        lambda s, v, r: answers_of(s, v, r, target_position=np.full((len(r), 1), np.nan)),
    )
    with pytest.raises(InvalidRun, match="target_position that is not finite"):
        transport.warm(FUSED.name, "", transport.prepare(ROWS, 0, 2))


@pytest.mark.parametrize(
    ("model", "batch", "says"), [("nosuch", 1, "serves no model nosuch"), (FUSED.name, 5000, "at most")]
)
def test_what_cannot_be_loaded_is_a_sentence(transport, model, batch, says):
    with pytest.raises(InvalidRun, match=says):
        transport.check(model, "", batch)
