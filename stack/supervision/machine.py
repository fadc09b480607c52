"""Doctor's checks of the machine that runs the embedded stack."""

from __future__ import annotations

import shutil
from pathlib import Path

from exporters.errors import ExportError
from exporters.target import gpu_validation
from exporters.target.findings import Finding, finding, tried
from stack.servers import triton
from stack.servers.ports import holder, is_free
from stack.servers.settings import load
from stack.supervision.status import read_status
from trading.errors import ConfigurationError


def has_gpu() -> bool:
    """Whether a driver of NVIDIA's is loaded, or its program is installed."""
    return Path("/proc/driver/nvidia/gpus").is_dir() or shutil.which("nvidia-smi") is not None


def gpu_words(path: Path, torch: str) -> list[str]:
    """What is known of the GPU, beside torch's version where it runs; nothing where none was ever here or tried."""
    if not path.exists() and not has_gpu():
        return []
    try:
        return gpu_validation.words(gpu_validation.read(path), torch)
    except ExportError as error:
        return [str(error)]


def examine() -> list[Finding]:
    """The shared libpython, Triton's backends, the ports."""
    settings = load()
    wanted = ports({n: getattr(settings.ports, n) for n in ("triton_http", "triton_grpc", "triton_metrics")})
    if not triton.is_installed():
        return [
            Finding("embedded Triton", "fits", "not installed here (extra: embedded); the container's is used"),
            wanted,
        ]
    return [
        tried("shared libpython for the embedded Triton", lambda: str(triton.shared_libpython())),
        tried("backends of the embedded Triton", backends),
        wanted,
    ]


def backends() -> str:
    """Names of those that the server will have."""
    source = triton.wheel()
    native = {p.name for p in (source / "backends").iterdir()}
    ours = {p.name for p in triton.BACKENDS.iterdir() if (p / "model.py").is_file()}
    missing = {"python"} - native | {"onnxruntime", "pytorch"} - ours
    if missing:
        raise ConfigurationError(f"missing: {', '.join(sorted(missing))}: run `make setup`")
    return f"{', '.join(sorted(native))} of the wheel; {', '.join(sorted(ours))} of ours"


def ports(wanted: dict[str, int]) -> Finding:
    """Free, or held by a stack of ours that is up."""
    settings = load()
    taken = {n: p for n, p in wanted.items() if not is_free(p)}
    if not taken:
        return Finding("ports", "fits", f"{', '.join(map(str, wanted.values()))} are free")
    if read_status(settings.absolute_home) is not None:
        return Finding("ports", "fits", "held by the stack that is up")
    name, port = next(iter(taken.items()))
    return finding(
        "ports",
        False,
        f"{port} is held by {holder(port)}",
        f"end it, or set ULTRATHINK_PORTS__{name.upper()}",
    )
