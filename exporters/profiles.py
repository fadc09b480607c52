"""Containers and GPUs as data: what each can read, needs and holds."""

from __future__ import annotations

import re
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
FACTS = "give a table [TAG] a container, with the keys of exporters/profile_data/containers.toml"
CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")


class Container(Struct, frozen=True, forbid_unknown_fields=True):
    """A release of nvcr.io/nvidia/tritonserver.

    Attributes:
        triton, cuda, onnxruntime, libtorch: versions inside.
        min_driver: major version of the NVIDIA driver that it needs on GeForce.
        max_onnx_ir, max_onnx_opset, max_onnx_ml_opset: newest ONNX that its ONNX Runtime reads.
        min_capability, max_capability: oldest and newest compute capability that its kernels were built for.
    """

    triton: str
    cuda: str
    min_driver: int
    onnxruntime: str
    libtorch: str
    max_onnx_ir: int
    max_onnx_opset: int
    max_onnx_ml_opset: int
    min_capability: str
    max_capability: str
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


def find(name: str = "", facts: Path | None = None) -> Container:
    """A container by its tag.

    Args:
        name: its tag, as "25.03-py3"; "" is the one that `facts` describe, where it is one alone, else the default.
        facts: a TOML file with a table of facts for each container that is not described here.

    Raises:
        ExportError: it is described neither here nor there.
    """
    if facts is None:
        return _one(
            containers(), name or DEFAULT_CONTAINER, "target", "; describe another with --triton-facts FILE"
        )
    told = read_facts(facts)
    if not name and len(told) > 1:
        raise ExportError(f"--triton-facts {facts} describes {', '.join(told)}: say which with --target")
    return _one({**containers(), **told}, name or next(iter(told)), "target")


def read_facts(path: Path) -> dict[str, Container]:
    """Containers that somebody has described, by their tags. Raises ExportError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found = {
            tag: msgspec.convert({**row, "name": tag}, Container) if isinstance(row, dict) else None
            for tag, row in table.items()
        }
    except (OSError, ValueError) as error:
        raise ExportError(f"--triton-facts {path}: {error}; {FACTS}") from error
    known = {tag: one for tag, one in found.items() if one is not None}
    if len(known) < len(found) or not found:
        raise ExportError(f"--triton-facts {path} describes no container: {FACTS}")
    for one in known.values():
        for said in (one.min_capability, one.max_capability):
            if not CAPABILITY.fullmatch(said):
                raise ExportError(f"--triton-facts {path}: {said!r} is no compute capability, as 12.0 is")
    return known


def find_gpu(name: str) -> Gpu:
    """Raises ExportError for a GPU that is not described here."""
    return _one(gpus(), name, "GPU")


def version_of(capability: str) -> tuple[int, ...]:
    """To be compared: 9.0 comes before 10.0."""
    return tuple(int(part) for part in capability.split("."))


def _read(file: str, kind: type[T]) -> dict[str, T]:
    table = tomllib.loads((DATA / file).read_text())
    return {name: msgspec.convert({**row, "name": name}, kind) for name, row in table.items()}


def _one(known: dict[str, T], name: str, what: str, way: str = "") -> T:
    if name not in known:
        raise ExportError(f"unknown {what} {name!r}: expected one of {', '.join(known)}{way}")
    return known[name]
