"""Containers and GPUs as data: what each can read, needs and holds."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from exporters.errors import ExportError

T = TypeVar("T")
DATA = Path(__file__).parent / "profile_data"
DEFAULT_CONTAINER = "25.03-py3"
DEFAULT_GPU = "rtx5070"


class Container(Struct, frozen=True, forbid_unknown_fields=True):
    """A release of nvcr.io/nvidia/tritonserver.

    Attributes:
        triton, cuda, onnxruntime, libtorch, tensorrt, python: versions inside.
        min_driver: major version of the NVIDIA driver that it needs on GeForce.
        max_onnx_ir, max_onnx_opset, max_onnx_ml_opset: newest ONNX that its ONNX Runtime reads.
        max_capability: newest compute capability that its kernels were built for.
        source: where these facts are published.
    """

    triton: str
    cuda: str
    min_driver: int
    onnxruntime: str
    libtorch: str
    tensorrt: str
    max_onnx_ir: int
    max_onnx_opset: int
    max_onnx_ml_opset: int
    max_capability: str
    python: str
    source: str
    name: str = ""


class Gpu(Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU: memory in MiB, compute capability as "12.0"."""

    title: str
    memory_mib: int
    capability: str
    name: str = ""

    @property
    def architecture(self) -> str:
        """As compilers name it: sm_120."""
        return "sm_" + self.capability.replace(".", "")


@cache
def containers() -> dict[str, Container]:
    """Every container that is described."""
    return _read("containers.toml", Container)


@cache
def gpus() -> dict[str, Gpu]:
    """Every GPU that is described."""
    return _read("gpus.toml", Gpu)


def find(name: str) -> Container:
    """Raises ExportError for a container that is not described here."""
    return _one(containers(), name, "target")


def find_gpu(name: str) -> Gpu:
    """Raises ExportError for a GPU that is not described here."""
    return _one(gpus(), name, "GPU")


def _read(file: str, kind: type[T]) -> dict[str, T]:
    table = tomllib.loads((DATA / file).read_text())
    return {name: msgspec.convert({**row, "name": name}, kind) for name, row in table.items()}


def _one(known: dict[str, T], name: str, what: str) -> T:
    if name not in known:
        raise ExportError(f"unknown {what} {name!r}: expected one of {', '.join(known)}")
    return known[name]
