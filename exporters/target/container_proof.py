"""A published file under the container's own ONNX Runtime or torch, in a throw-away environment, on the CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from exporters.errors import ExportError, brief
from exporters.formats.tensors import Arrays
from exporters.parity.golden import compare_golden
from exporters.profiles import Container
from exporters.repository.lineage import Lineage
from exporters.repository.repository import ModelRepository, newest
from exporters.target import ask_there
from exporters.target.findings import Finding

#: What torch imports beside CUDA's libraries, which are taken from where our own torch has them.
BESIDE_TORCH = ("filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "sympy", "typing-extensions")
TIMEOUT_S = 900


def prove(
    name: str,
    version: int | None,
    repository: ModelRepository,
    container: Container,
    progress: Callable[[str], None],
) -> list[Finding]:
    """Ask a version's file its golden rows, and compare with what its source answered when it was published.

    Args:
        name: a model of the repository; of a pipeline, every step that its version pins.
        version: default: the released one, else the newest.
        repository: where it lies.
        container: whose runtimes are taken.
        progress: told what is being done.

    Raises:
        ExportError: there is no such version, or its files are not what they were.
    """
    number = version or repository.serving(name).released or newest(repository, name)
    lineage = repository.verified_lineage(name, number)
    if lineage.steps and lineage.contract.backend == "ensemble":
        found = []
        for step, pinned in lineage.steps.items():
            found += prove(step, int(pinned), repository, container, progress)
        return found
    what = f"{name} {number} under {runtime(lineage, container)}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            progress(f"{name} {number}: install {runtime(lineage, container)} in a throw-away environment")
            python = environment(Path(folder), lineage, container)
        except (OSError, subprocess.SubprocessError, ExportError) as error:
            way = "run it where the package index can be reached"
            return [Finding(what, "cannot tell", f"no environment could be made: {said(error)}", way)]
        progress(f"{name} {number}: ask it in {runtime(lineage, container)}")
        return [asked(what, Path(folder), python, lineage, repository)]


def runtime(lineage: Lineage, container: Container) -> str:
    """What runs the file in the container."""
    if lineage.contract.backend == "pytorch":
        return f"torch {container.libtorch.partition('a')[0]}"
    return f"ONNX Runtime {container.onnxruntime}"


def environment(folder: Path, lineage: Lineage, container: Container) -> Path:
    """Its interpreter: of our own version, with the container's runtime."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    uv = shutil.which("uv", path=beside)
    if uv is None:
        raise ExportError("uv is not installed: pip install uv")
    python = folder / "env/bin/python"
    packages = [f"onnxruntime=={container.onnxruntime}", "numpy"]
    if lineage.contract.backend == "pytorch":
        packages = ["--no-deps", f"torch=={container.libtorch.partition('a')[0]}", "numpy", *BESIDE_TORCH]
    for command in (
        [uv, "venv", "-q", "--python", sys.executable, str(folder / "env")],
        [uv, "pip", "install", "-q", "--python", str(python), *packages],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    return python


def asked(what: str, folder: Path, python: Path, lineage: Lineage, repository: ModelRepository) -> Finding:
    """The golden rows, all at once and one alone."""
    golden = repository.golden(lineage.contract, lineage.version)
    path = repository.folder(lineage.contract.name, lineage.version) / lineage.contract.file_name
    way = "export it again for this target, with an older converter or --format"
    try:
        found = compare_golden(
            lineage, golden, lambda rows: answers(folder, python, path, lineage, rows), where="file", device="cpu"
        )
    except (subprocess.SubprocessError, ExportError, OSError, ValueError, zipfile.BadZipFile) as error:
        return Finding(what, "does not fit", said(error), way)
    if not found.passed:
        return Finding(what, "does not fit", f"its answers differ by up to {found.max_abs:.2e}", way)
    return Finding(
        what, "fits", f"loads, and answers {len(golden[0][0])} rows as its source within {found.max_abs:.1e}"
    )


def answers(folder: Path, python: Path, path: Path, lineage: Lineage, rows: Arrays) -> Arrays:
    """What the other runtime answers. Raises CalledProcessError with what it said where it does not."""
    given, told = folder / "rows.npz", folder / "answers.npz"
    np.savez(given, *rows)
    names = {
        "inputs": [t.name for t in lineage.contract.inputs],
        "outputs": [t.name for t in lineage.contract.outputs],
    }
    libraries = sorted(Path(sysconfig.get_paths()["purelib"]).glob("nvidia/*/lib"))
    subprocess.run(
        [python, "-I", ask_there.__file__, path, given, told, json.dumps(names)],
        env={"PATH": os.environ.get("PATH", ""), "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))},
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    with np.load(told, allow_pickle=False) as stored:
        return [stored[f"arr_{k}"] for k in range(len(stored.files))]


def said(error: Exception) -> str:
    """The last line of what a process said, or the error itself."""
    lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return brief(lines[-1] if lines else error, 600)
