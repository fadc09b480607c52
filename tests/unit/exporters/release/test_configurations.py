"""Why the version before is not kept beside a new one."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from exporters.release.configurations import why_alone
from trading.models.signature import ModelSignature, TensorSpec

OLD = ModelSignature("m", "onnxruntime", (TensorSpec("x", (4,)),), (TensorSpec("y", (1,)),), (), None, 64)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ""),
        ({"inputs": (TensorSpec("x", (4,), "FP64"),)}, "its inputs are x FP64 [4], and x FP32 [4] in version 1"),
        ({"outputs": (TensorSpec("z", (1,)),)}, "its outputs are z FP32 [1], and y FP32 [1] in version 1"),
        ({"max_batch_size": 128}, "its largest batch is 128, and 64 in version 1"),
        ({"backend": "pytorch"}, "its backend is pytorch, and onnxruntime in version 1"),
    ],
)
def test_the_first_difference_is_named(given, words):
    assert why_alone(OLD, 1, replace(OLD, **given), 2) == words


def test_an_older_version_stands_alone_because_callers_without_a_version_get_the_highest():
    assert "go to the highest" in why_alone(OLD, 3, OLD, 2)
    assert why_alone(OLD, 2, OLD, 2) == ""
