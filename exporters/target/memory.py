"""What the models need on the GPU, estimated before anything is loaded there.

needed = context + sum over models, versions and instances of
         (weights + activations at the largest batch) * ARENA + workspace

Weights and activations are counted from the file. The constants are estimates, on the safe side, and
`tests/gpu` holds them against what NVML reports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from msgspec import Struct

from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Serving
from exporters.profiles import Gpu
from exporters.repository.repository import ModelRepository
from trading.models.signature import ModelSignature

MIB = 2**20
#: CUDA context, cuBLAS and cuDNN handles and kernels of one server process, and libtorch's where it is used.
CONTEXT_MIB = {"onnxruntime": 500, "pytorch": 350}
#: cuBLAS workspace of one instance on Blackwell and Hopper.
WORKSPACE_MIB = 32
#: An arena rounds up and fragments.
ARENA = 1.2
#: Left to the driver, a desktop and a candidate on trial.
RESERVED_SHARE = 0.1


class Need(Struct, frozen=True):
    """One loaded version."""

    model: str
    version: int
    instances: int
    weights_mib: float
    activations_mib: float
    total_mib: float


class Plan(Struct, frozen=True):
    """Everything that would be on the GPU at once."""

    gpu: str
    memory_mib: float
    usable_mib: float
    context_mib: float
    needs: list[Need]

    @property
    def needed_mib(self) -> float:
        """The sum."""
        return self.context_mib + sum(n.total_mib for n in self.needs)

    @property
    def fits(self) -> bool:
        """Whether it is within what may be used."""
        return self.needed_mib <= self.usable_mib

    def largest(self) -> str:
        """The greediest model, in words."""
        if not self.needs:
            return "no model"
        top = max(self.needs, key=lambda n: n.total_mib)
        return (
            f"{top.model} {top.version} alone takes {top.total_mib:,.0f} MiB ({top.weights_mib:,.0f} weights and "
            f"{top.activations_mib:,.0f} activations, {top.instances} instances)"
        )


def plan(repository: ModelRepository, gpu: Gpu, changed: Mapping[str, Serving] | None = None) -> Plan:
    """What is released, with some configurations as they are to be."""
    overlay, needs, backends = changed or {}, [], set()
    for name in sorted({*repository.names(), *overlay}):
        serving = overlay.get(name) or repository.serving(name)
        for version in serving.versions:
            try:
                lineage = repository.lineage(name, version)
            except ExportError:
                continue  # not ours: `export list` says so
            if lineage.contract.backend == "ensemble":
                continue
            backends.add(lineage.contract.backend)
            needs.append(need(name, version, serving.instances, lineage.weights_bytes, lineage.activation_bytes))
    context = sum(CONTEXT_MIB[b] for b in backends)
    return Plan(gpu.title, gpu.memory_mib, gpu.memory_mib * (1 - RESERVED_SHARE), context, needs)


def need(name: str, version: int, instances: int, weights: int, activations: int) -> Need:
    """Of one version: every instance has its own session, weights included."""
    total = instances * ((weights + activations) * ARENA / MIB + WORKSPACE_MIB)
    return Need(name, version, instances, weights / MIB, activations / MIB, total)


def measure(signature: ModelSignature, path: Path) -> tuple[int, int]:
    """Bytes of weights, and of activations at the largest batch, of one instance."""
    if path.suffix == ".pt":
        # torch takes longer to import than an ONNX file takes to export.
        from exporters.target.torchscript_memory import measure_torchscript

        return measure_torchscript(signature, path)
    return measure_onnx(signature, onnx.load(path))


def measure_onnx(signature: ModelSignature, model: onnx.ModelProto) -> tuple[int, int]:
    """The same of an ONNX model."""
    weights = sum(int(np.prod(t.dims)) * itemsize(t.data_type) for t in model.graph.initializer)
    return weights, live_bytes(model, signature.max_batch_size)


def live_bytes(model: onnx.ModelProto, batch: int) -> int:
    """The largest sum of tensors that are alive at once, in the graph's order; unknown axes count as the batch."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False)
    sizes = {}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        tensor = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else batch for d in tensor.shape.dim]
        sizes[value.name] = int(np.prod(dims)) * itemsize(tensor.elem_type)
    last_use = {name: k for k, node in enumerate(inferred.graph.node) for name in node.input}
    ends = {o.name for o in inferred.graph.output}
    alive = sum(sizes.get(i.name, 0) for i in inferred.graph.input)
    highest = alive
    for k, node in enumerate(inferred.graph.node):
        alive += sum(sizes.get(name, 0) for name in node.output)
        highest = max(highest, alive)
        done = {n for n in (*node.input, *node.output) if last_use.get(n, k) == k and n not in ends}
        alive -= sum(sizes.get(name, 0) for name in done)
    return highest


def itemsize(kind: int) -> int:
    """Bytes of an element; text and unknown types count as 8."""
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize) or 8
    except KeyError:
        return 8


def free_disk_bytes(path: Path) -> int:
    """Of the file system of the nearest folder that exists."""
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
