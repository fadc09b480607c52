"""What cannot be seen on a CPU."""

from __future__ import annotations

import onnxruntime
import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def test_torch_has_kernels_for_this_device():
    major, minor = torch.cuda.get_device_capability()
    assert f"sm_{major}{minor}" in torch.cuda.get_arch_list()
    x = torch.ones(64, 64, device="cuda")
    assert float((x @ x).sum()) == 64.0**3


def test_onnxruntime_offers_cuda():
    assert "CUDAExecutionProvider" in onnxruntime.get_available_providers()
