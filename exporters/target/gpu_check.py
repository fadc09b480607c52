"""Torch on the GPU that is here: kernels of the card's own architecture, and a product that is right."""

from __future__ import annotations

import re
from typing import Protocol

from exporters.profiles import Gpu
from exporters.repository.files import now
from exporters.target.gpu_validation import Seen

#: Rows and columns of what is multiplied: enough for a kernel of the library, too few for memory to matter.
SIDE = 256
#: Of a product in float32 against the processor's, where both round as they like.
TOLERANCE = 1e-2


class Build(Protocol):
    """What is asked of torch and its device. `product_error` raises RuntimeError where no kernel runs."""

    version: str
    cuda: str | None
    architectures: list[str]

    def device(self) -> tuple[str, str] | None:
        """Name and architecture ("sm_120") of the first device; None where there is none."""

    def product_error(self) -> float:
        """Largest difference between a product there and on the processor."""


class Torch:
    """The torch that is installed."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self.version, self.cuda = str(torch.__version__), torch.version.cuda
        # A fact of the build; get_arch_list() is empty without a GPU.
        self.architectures = (torch._C._cuda_getArchFlags() or "").split()  # noqa: SLF001

    def device(self) -> tuple[str, str] | None:
        """See Build."""
        if not self._torch.cuda.is_available():
            return None
        major, minor = self._torch.cuda.get_device_capability(0)
        return self._torch.cuda.get_device_name(0), f"sm_{major}{minor}"

    def product_error(self) -> float:
        """See Build."""
        generator = self._torch.Generator().manual_seed(7)
        one = self._torch.rand((SIDE, SIDE), generator=generator)
        there = one.cuda()
        return float(((there @ there).cpu() - one @ one).abs().max())


def check(build: Build, expected: Gpu | None) -> Seen:
    """Whether torch computes on the first device, and has kernels of its own for it.

    Args:
        build: torch.
        expected: which card it must be; None is whichever is there.
    """
    kernels = " ".join(build.architectures) or "no kernels for any GPU"
    about = f"torch {build.version}, CUDA {build.cuda or 'none'}, {kernels}"
    if not build.cuda:
        why = "it is a build without CUDA: install torch 2.9.1 from the lock, which is built for CUDA 12.8"
    else:
        try:
            device = build.device()
        except RuntimeError as refused:
            return Seen(False, build.version, f"{about}: {' '.join(str(refused).split())[:300]}", now())
        if device is None:
            why = (
                "it sees no GPU: is the driver 570 or newer (`nvidia-smi`), and is the GPU given to this container?"
            )
        else:
            name, own = device
            about += f", {name} ({own})"
            why = wrong(build, own, expected)
    return Seen(not why, build.version, f"{about}: {why}" if why else about, now())


def runs_on(kernels: str, own: str) -> bool:
    """Whether kernels of one architecture run on another: of the same major version, and no newer.

    CUDA C++ Programming Guide, Binary Compatibility: sm_86 runs on sm_89, and nothing older than it on sm_120.
    """
    built, card = (re.fullmatch(r"sm_(\d+)(\d)", one) for one in (kernels, own))
    if built is None or card is None:
        return False
    return built[1] == card[1] and int(built[2]) <= int(card[2])


def wrong(build: Build, own: str, expected: Gpu | None) -> str:
    """Why the device cannot be used; "" where it can."""
    if expected is not None and own != expected.architecture:
        return f"{expected.title} ({expected.architecture}) is expected: name this one with --gpu"
    if not any(runs_on(kernels, own) for kernels in build.architectures):
        return f"its list has nothing for {own}: install a build that has; torch 2.9.1 for CUDA 12.8 has sm_120"
    try:
        error = build.product_error()
    except RuntimeError as refused:
        return " ".join(str(refused).split())[:300]
    if not error <= TOLERANCE:
        return f"a product there differs by {error:.2g} from the processor's: the card or its driver is broken"
    return ""
