"""Whether this Python's torch and ONNX Runtime fit the desk's GPU, seen without one."""

from __future__ import annotations

import onnxruntime
import torch
from msgspec import Struct
from onnxruntime.capi import build_and_package_info

from exporters.profiles import Profile

#: RTX 5070: Blackwell, compute capability 12.0.
GPU_ARCHITECTURE = "sm_120"


class Finding(Struct, frozen=True):
    """One check: what was looked at, whether it fits, and what was seen."""

    check: str
    fits: bool
    seen: str


def preflight(profile: Profile) -> list[Finding]:
    """Build facts that once were found out only by an outage."""
    # The list of compiled-in kernels is a fact of the build; get_arch_list() is empty without a GPU.
    architectures = torch._C._cuda_getArchFlags() or "none"  # noqa: SLF001
    major = profile.cuda.split(".")[0]
    runtime_cuda = getattr(build_and_package_info, "cuda_version", "none")
    return [
        Finding("torch kernels for RTX 5070", GPU_ARCHITECTURE in architectures.split(), architectures),
        Finding("torch CUDA build", profile.cuda.startswith(str(torch.version.cuda)), str(torch.version.cuda)),
        Finding(
            "onnxruntime-gpu CUDA build",
            str(runtime_cuda).split(".")[0] == major,
            f"{onnxruntime.__version__} for CUDA {runtime_cuda}",
        ),
    ]
