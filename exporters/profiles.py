"""What a Triton container can read and what it needs, from NVIDIA's framework support matrix."""

from __future__ import annotations

from msgspec import Struct

from exporters.errors import ExportError


class Profile(Struct, frozen=True):
    """A release of nvcr.io/nvidia/tritonserver.

    Attributes:
        name: the image's tag.
        cuda: CUDA toolkit inside.
        min_driver: NVIDIA driver that it needs on GeForce.
        onnxruntime, libtorch: versions of the native backends.
        max_onnx_ir, max_onnx_opset: newest ONNX that its ONNX Runtime reads.
    """

    name: str
    cuda: str
    min_driver: int
    onnxruntime: str
    libtorch: str
    max_onnx_ir: int
    max_onnx_opset: int


#: 25.01 is the first with Blackwell (sm_120); 25.04 moves on to CUDA 12.9.
PROFILES = {
    p.name: p
    for p in (
        Profile("25.01-py3", "12.8.0", 570, "1.20.1", "2.6.0a0", 10, 21),
        Profile("25.02-py3", "12.8.0", 570, "1.20.1", "2.7.0a0", 10, 21),
        Profile("25.03-py3", "12.8.1", 570, "1.21.0", "2.7.0a0", 10, 22),
    )
}
DEFAULT_PROFILE = "25.03-py3"


def find(name: str) -> Profile:
    """Raises ExportError for a container that is not described here."""
    if name not in PROFILES:
        raise ExportError(f"unknown target {name!r}: expected one of {', '.join(PROFILES)}")
    return PROFILES[name]
