"""What Prometheus is told of a stack: its matrix, its models, the age of its secrets, and no secret."""

from __future__ import annotations

import os
import time

import pytest

from exporters.errors import ExportError
from stack.servers.identity import Identity
from stack.supervision.sources import ProcessSource, ReleasesSource, SecretSource, processes
from stack.supervision.status import READY, ServiceStatus, StackStatus, write_status
from tests.unit.services.metrics.test_sources import text_of
from trading.errors import ServiceUnavailable


def status_of(*rows):
    return StackStatus(Identity.of(os.getpid()), list(rows), time.time(), ["the disk is nearly full"], "desk")


def test_the_matrix_is_told(tmp_path):
    row = ServiceStatus(
        "gateway", READY, memory_mb=100.0, memory_limit_mb=1024, cpu_percent=50.0, restarts=3, out_of_memory=1,
        degraded=["redis is waiting"], hour=0.99,
    )  # fmt: skip
    write_status(tmp_path, status_of(row, ServiceStatus("data", "waiting", held="no model")))
    text = text_of(ProcessSource(tmp_path).look())
    for line in (
        'ultrathink_process_ready{process="gateway"} 1.0', 'ultrathink_process_ready{process="data"} 0.0',
        'ultrathink_process_held{process="data"} 1.0', 'ultrathink_process_degraded{process="gateway"} 1.0',
        'ultrathink_process_memory_bytes{process="gateway"} 1.048576e+08',
        'ultrathink_process_cpu_ratio{process="gateway"} 0.5', 'ultrathink_process_restarts_total{process="gateway"} 3.0',
        'ultrathink_process_out_of_memory_total{process="gateway"} 1.0',
        'ultrathink_process_availability_ratio{process="gateway",window="1h"} 0.99', "ultrathink_supervisor_up 1.0",
        "ultrathink_machine_problems 1.0",
    ):  # fmt: skip
        assert line in text
    assert 'window="24h"' not in text


def test_a_supervisor_that_is_gone_or_silent_is_down():
    gone = StackStatus(Identity(1, 0.0), [], time.time())
    silent = StackStatus(Identity.of(os.getpid()), [], time.time() - 100)
    for status in (gone, silent):
        assert "ultrathink_supervisor_up 0.0" in text_of(processes(status))


def test_where_nothing_runs_nothing_is_seen(tmp_path):
    with pytest.raises(ServiceUnavailable, match="nothing runs"):
        ProcessSource(tmp_path).look()


def test_secrets_are_told_by_their_age_alone(tmp_path):
    (tmp_path / "redis").write_text("hunter2")
    os.utime(tmp_path / "redis", (time.time() - 1000,) * 2)
    text = text_of(SecretSource(tmp_path).look())
    assert 'ultrathink_secret_age_seconds{secret="redis"} 1000.' in text
    assert "hunter2" not in text


def test_a_repository_of_nothing_has_no_models(tmp_path):
    (tmp_path / "models").mkdir()
    assert "model=" not in text_of(ReleasesSource(tmp_path / "models").look())


def test_a_repository_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ServiceUnavailable, match="models is no folder"):
        ReleasesSource(tmp_path / "models").look()


def test_a_release_that_does_not_say_where_it_comes_from_is_told(tmp_path):
    folder = tmp_path / "models" / "fraud"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(b"x")
    (folder / "config.pbtxt").write_text(
        'name: "fraud"\nbackend: "onnxruntime"\nversion_policy { specific { versions: [1] } }\n'
    )
    try:
        text = text_of(ReleasesSource(tmp_path / "models").look())
    except ExportError:
        pytest.fail("one model that is not ours hides all others")
    assert 'ultrathink_model_version{model="fraud"} 1.0' in text
    assert 'ultrathink_model_lineage_readable{model="fraud"} 0.0' in text
