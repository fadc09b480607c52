"""Locust finds the stack that every other command finds."""

from __future__ import annotations

import pytest

from loadtest.closed_loop.where import Kept, addresses, stack_here
from stack.servers.settings import ServerPorts, StackSettings


def test_the_ports_are_those_that_the_stack_has_kept(tmp_path, monkeypatch):
    kept = StackSettings(
        home=tmp_path / "home", brokers=3, ports=ServerPorts.automatic(), model_repository=tmp_path
    )
    kept.save()
    monkeypatch.setenv("ULTRATHINK_HOME", str(kept.home))
    assert addresses(stack_here()) == {
        "triton_grpc": kept.triton_grpc, "triton_http": f"http://127.0.0.1:{kept.ports.triton_http}",
        "torchserve_grpc": f"127.0.0.1:{kept.ports.torchserve_grpc}",
        "torchserve_token": str(kept.home / "secrets" / "torchserve-inference"),
        "data_service": f"http://127.0.0.1:{kept.ports.data}", "kafka": kept.kafka_bootstrap,
    }  # fmt: skip
    monkeypatch.delenv("ULTRATHINK_HOME")
    monkeypatch.chdir(tmp_path)
    assert stack_here() == Kept()
    kept.model_copy(update={"home": tmp_path / ".ultrathink"}).save()
    assert stack_here().ports.triton_grpc == kept.ports.triton_grpc


@pytest.mark.parametrize("text", ["", "rubbish", "[]", '{"ports": {"triton_grpc": "x"}}'])
def test_where_nothing_can_be_read_the_usual_ones_are_tried(tmp_path, monkeypatch, text):
    (tmp_path / "stack.json").write_text(text)
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path))
    assert addresses(stack_here())["kafka"] == "127.0.0.1:9092"
