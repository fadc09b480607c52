"""Whether builds, models and GPU fit each other, seen before anything is deployed. Needs no GPU."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from onnxruntime.capi import build_and_package_info

from exporters.errors import ExportError
from exporters.formats import onnx
from exporters.profiles import Container, Gpu, version_of
from exporters.repository.lineage import Lineage
from exporters.repository.repository import ModelRepository
from exporters.target import memory
from exporters.target.findings import Finding, finding
from exporters.target.gpu_check import runs_on
from trading.models.signature import ModelSignature

#: Newest TorchScript archive that libtorch 1.12 to 2.9 read: caffe2/serialize/versions.h.
MAX_TORCHSCRIPT_FORMAT = 10
MIN_FREE_DISK_MIB = 1024
#: Of the memory that a card is sold with: error correction takes a sixteenth of GDDR6, and the driver some.
LEAST_SHARE = 0.9


def examine(container: Container, gpu: Gpu, repository: ModelRepository) -> list[Finding]:
    """Every check of builds, device and models."""
    return [
        *builds(container, gpu),
        *device(container, gpu),
        *models(container, repository),
        memory_plan(gpu, repository),
        disk(repository),
    ]


def builds(container: Container, gpu: Gpu) -> list[Finding]:
    """Facts of the installed builds, which once were found out only by an outage."""
    # The list of compiled-in kernels is a fact of the build; get_arch_list() is empty without a GPU.
    architectures = (torch._C._cuda_getArchFlags() or "none").split()  # noqa: SLF001
    runtime = str(getattr(build_and_package_info, "cuda_version", "none"))
    fitting = [one for one in architectures if runs_on(one, gpu.architecture)]
    oldest, newest = version_of(container.min_capability), version_of(container.max_capability)
    return [
        finding(
            f"torch has kernels for {gpu.title}",
            bool(fitting),
            f"{torch.__version__}: {' '.join(architectures)}"
            + (f"; {fitting[-1]} runs on {gpu.architecture}" if fitting else ""),
            f"install a torch build whose list has {gpu.architecture}: torch 2.9.1 for CUDA 12.8 has sm_120",
        ),
        finding(
            "torch runs with the driver that the container needs",
            is_no_newer(str(torch.version.cuda), container.cuda),
            f"CUDA {torch.version.cuda}; the container has {container.cuda}, and driver {container.min_driver}",
            f"install the torch build for CUDA {container.cuda} or older, or choose a newer --target",
        ),
        finding(
            "onnxruntime-gpu runs with the driver that the container needs",
            is_no_newer(runtime, container.cuda),
            f"{onnxruntime.__version__} for CUDA {runtime}",
            "onnxruntime-gpu before 1.27 is CUDA 12: pip install 'onnxruntime-gpu<1.27'",
        ),
        finding(
            f"Triton {container.name} knows compute capability {gpu.capability}",
            oldest <= version_of(gpu.capability) <= newest,
            f"its kernels go from {container.min_capability} to {container.max_capability}",
            "use 25.01-py3 or newer for Blackwell, 25.07-py3 or older for what is older than Turing",
        ),
        finding(
            "what we write is what the container reads",
            container.max_onnx_opset >= onnx.OPSET,
            f"opset {onnx.OPSET}; ONNX Runtime {container.onnxruntime} reads opset {container.max_onnx_opset}, "
            f"IR {container.max_onnx_ir}",
            "choose a newer --target",
        ),
    ]


def is_no_newer(built: str, held: str) -> bool:
    """Whether a build's CUDA is no newer than another's, by major and minor version: drivers run what is older."""
    try:
        own, other = (tuple(map(int, version.split(".")[:2])) for version in (built, held))
    except ValueError:
        # A build without CUDA.
        return False
    return own <= other


def device(container: Container, gpu: Gpu) -> list[Finding]:
    """Driver and card, through NVML."""
    try:
        import pynvml

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pynvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 (NVML's errors are classes made at run time)
        why = f"NVML: {error}"
        return [
            Finding(
                "driver", "cannot tell", why, f"run this on the GPU's machine; needs driver {container.min_driver}"
            ),
            Finding("GPU", "cannot tell", why, f"run this on the GPU's machine; expected: {gpu.title}"),
        ]
    try:
        return seen_device(pynvml, container, gpu)
    finally:
        pynvml.nvmlShutdown()


def seen_device(nvml: Any, container: Container, gpu: Gpu) -> list[Finding]:
    """What NVML says of the first GPU."""
    driver = decoded(nvml.nvmlSystemGetDriverVersion())
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    name = decoded(nvml.nvmlDeviceGetName(handle))
    capability = ".".join(map(str, nvml.nvmlDeviceGetCudaComputeCapability(handle)))
    held = nvml.nvmlDeviceGetMemoryInfo(handle)
    total, free = (int(v) // memory.MIB for v in (held.total, held.free))
    return [
        finding(
            "driver",
            int(driver.split(".")[0]) >= container.min_driver,
            f"{driver}; Triton {container.name} needs {container.min_driver}",
            f"install driver {container.min_driver} or newer",
        ),
        finding(
            "GPU",
            capability == gpu.capability and total >= gpu.memory_mib * LEAST_SHARE,
            f"{name}: compute capability {capability}, {total:,} MiB, {free:,} free; expected {gpu.title}: "
            f"{gpu.capability}, {gpu.memory_mib:,} MiB",
            "name the card that is here with --gpu",
        ),
    ]


def decoded(value: str | bytes) -> str:
    """NVML's answers are bytes in older versions."""
    return value.decode() if isinstance(value, bytes) else value


def models(container: Container, repository: ModelRepository) -> list[Finding]:
    """Every released file against the container's runtimes."""
    found = []
    for name in repository.names():
        for version in repository.serving(name).versions:
            try:
                lineage = repository.verified_lineage(name, version)
            except ExportError as error:
                found.append(
                    Finding(f"{name} {version}", "does not fit", str(error), "export and release it again")
                )
                continue
            if lineage.contract.backend != "ensemble":
                found.append(readable(lineage, repository, container))
    return found or [Finding("models", "fits", "none is released yet")]


def readable(lineage: Lineage, repository: ModelRepository, container: Container) -> Finding:
    """Whether the container's runtime reads a version's file."""
    signature = lineage.contract
    what, path = f"{signature.name} {lineage.version}", repository.folder(signature.name, lineage.version)
    try:
        if signature.backend == "onnxruntime":
            seen = readable_onnx(path / signature.file_name, signature, container)
        else:
            seen = readable_torchscript(path / signature.file_name, lineage.tools.get("torch", "?"), container)
    except ExportError as error:
        return Finding(what, "does not fit", str(error), "export it again for this target")
    return Finding(what, "fits", seen)


def readable_onnx(path: Path, signature: ModelSignature, container: Container) -> str:
    """IR and opset of a file within the container's limits."""
    onnx.check(path, signature, container)
    model = onnx.load(path)
    opsets = ", ".join(f"{i.domain or 'ai.onnx'} {i.version}" for i in model.opset_import)
    return f"ONNX IR {model.ir_version}, {opsets}; ONNX Runtime {container.onnxruntime} reads it"


def readable_torchscript(path: Path, torch_version: str, container: Container) -> str:
    """Archive format within what the container's libtorch reads."""
    with zipfile.ZipFile(path) as archive:
        name = next((n for n in archive.namelist() if n.endswith("/version") and n.count("/") == 1), "")
        number = int(archive.read(name)) if name else MAX_TORCHSCRIPT_FORMAT + 1
    if number > MAX_TORCHSCRIPT_FORMAT:
        raise ExportError(
            f"TorchScript archive {number}; libtorch {container.libtorch} reads {MAX_TORCHSCRIPT_FORMAT}"
        )
    return (
        f"TorchScript archive {number}, written by torch {torch_version}; libtorch {container.libtorch} reads "
        f"archives up to {MAX_TORCHSCRIPT_FORMAT}, and the release's probe shows whether it knows the operators"
    )


def memory_plan(gpu: Gpu, repository: ModelRepository) -> Finding:
    """Everything that is released, on the card at once."""
    plan = memory.plan(repository, gpu)
    return finding(
        f"GPU memory of {gpu.title}",
        plan.fits,
        f"{plan.needed_mib:,.0f} of {plan.usable_mib:,.0f} MiB ({len(plan.needs)} loaded versions, context "
        f"{plan.context_mib:,.0f}); {plan.largest()}",
        "prune versions, use fewer instances, --precision fp16 or a smaller --max-batch",
    )


def disk(repository: ModelRepository) -> Finding:
    """Room for more versions."""
    free = memory.free_disk_bytes(repository.root) // memory.MIB
    return finding(
        "disk",
        free >= MIN_FREE_DISK_MIB,
        f"{free:,} MiB free at {repository.root}",
        "free some: `ultrathink export prune NAME --keep 2`",
    )
