"""A real Triton is asked for a GPU: here it has none, and says so, and stays as ready as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from exporters.release import gpu_probe
from exporters.release.triton_client import TritonServer
from exporters.target.gpu_validation import Seen, read, record

ULTRATHINK = Path(sys.executable).parent / "ultrathink"


def test_the_probes_model_multiplies():
    session = onnxruntime.InferenceSession(gpu_probe.graph(), providers=["CPUExecutionProvider"])
    rows = np.eye(gpu_probe.SIDE, dtype=np.float32)
    (answer,) = session.run(None, {"x": rows})
    assert np.array_equal(answer, gpu_probe.factors())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here: tests/gpu")
def test_a_server_without_a_gpu_refuses_and_is_as_ready_as_before(stack, exported, tmp_path):
    path = tmp_path / "gpu-validation.json"
    words = ["gpu", "probe", "--triton-url", stack.triton_grpc, "--out", str(path), "--json"]
    with closing(TritonServer(stack.triton_grpc)) as triton:
        before = triton.index()
        done = subprocess.run([ULTRATHINK, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert triton.index() == before
        assert [m for m in triton.index() if m.name.startswith(gpu_probe.NAME) and m.state == "READY"] == []
        assert triton.ready("trading_decision")
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert "runs no model of KIND_GPU" in told["told"]
    assert "gpu" in told["told"].lower()
    assert read(path).triton.told == told["told"]


def test_nobody_at_the_address_is_a_sentence_and_says_nothing_of_the_gpu(tmp_path):
    path = tmp_path / "x.json"
    words = ["gpu", "probe", "--triton-url", "127.0.0.1:1", "--out", str(path)]

    def refused():
        done = subprocess.run([ULTRATHINK, *words], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "127.0.0.1:1" in done.stderr
        assert "Traceback" not in done.stderr

    refused()
    assert not path.exists()
    record(path, triton=Seen(True, "triton 2.42", "it ran a model of KIND_GPU", "2026-11-01T00:00:00Z"))
    before = path.read_bytes()
    refused()
    assert path.read_bytes() == before
