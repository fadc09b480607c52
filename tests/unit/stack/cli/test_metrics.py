"""`ultrathink metrics serve` where there is no stack: in a container, beside others' servers."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from stack.servers.ports import free_ports
from tests.waiting import eventually

PROGRAM = Path(sys.executable).parent / "ultrathink"


@contextmanager
def served(tmp_path, **given):
    (port,) = free_ports(1)
    # Nobody's servers are watched, so that nobody is waited for.
    nowhere = {"KAFKA_BOOTSTRAP": "", "REDIS_URL": "", "MLFLOW_URI": "", "DISK": str(tmp_path)}
    told = {f"ULTRATHINK_METRICS_{name}": value for name, value in {**nowhere, **given}.items()}
    process = subprocess.Popen(
        [str(PROGRAM), "metrics", "serve", "--port", str(port)], stderr=subprocess.DEVNULL,
        env={**os.environ, **told, "ULTRATHINK_HOME": str(tmp_path / "home")},
    )  # fmt: skip

    def text():
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
        except httpx.TransportError:
            return ""

    try:
        yield text
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize("is_named", [True, False])
def test_released_models_are_told_of_where_their_repository_is_named(tmp_path, is_named):
    folder = tmp_path / "models" / "fraud"
    (folder / "2").mkdir(parents=True)
    (folder / "2" / "model.onnx").write_bytes(b"x")
    (folder / "config.pbtxt").write_text(
        'name: "fraud"\nbackend: "onnxruntime"\nversion_policy { specific { versions: [2] } }\n'
    )
    with served(tmp_path, **({"MODELS": str(tmp_path / "models")} if is_named else {})) as text:
        if is_named:
            eventually(lambda: 'ultrathink_model_version{model="fraud"} 2.0' in text(), 30)
            assert 'ultrathink_model_lineage_readable{model="fraud"} 0.0' in text()
        else:
            eventually(lambda: "node_memory_MemTotal_bytes" in text(), 30)
            assert "ultrathink_model_version" not in text()
