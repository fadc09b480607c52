"""Every row."""

from __future__ import annotations

from tests.conformance import boosters, onnx_models, scikit, torch_models

CASES = [*scikit.CASES, *boosters.CASES, *torch_models.CASES, *onnx_models.CASES]
