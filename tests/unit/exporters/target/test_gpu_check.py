"""Whether torch computes on the card that is here is found out by having it do so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporters.errors import ExportError
from exporters.profiles import find_gpu, gpus
from exporters.target.gpu_check import Torch, check, runs_on
from exporters.target.gpu_validation import Seen, Validation, is_of_another_torch, read, record, words
from tests.paths import ROOT

ULTRATHINK = Path(sys.executable).parent / "ultrathink"
CARD = find_gpu("rtx5070")
AT = "2026-11-28T12:00:00+00:00"


class FakeBuild:
    """A build of torch, and the card that it sees."""

    def __init__(self, cuda="12.8", architectures=("sm_90", "sm_120"), device=("RTX 5070", "sm_120"), error=1e-4):
        self.version, self.cuda, self.architectures = "2.9.1+cu128", cuda, list(architectures)
        self._device, self._error = device, error

    def device(self):
        if isinstance(self._device, Exception):
            raise self._device
        return self._device

    def product_error(self):
        if isinstance(self._error, Exception):
            raise self._error
        return self._error


def test_a_build_with_the_cards_kernels_computes():
    found = check(FakeBuild(), CARD)
    assert (found.ok, found.by) == (True, "2.9.1+cu128")
    for told in ("torch 2.9.1+cu128", "CUDA 12.8", "sm_90 sm_120", "RTX 5070 (sm_120)"):
        assert told in found.told


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (FakeBuild(cuda=None, architectures=()), "a build without CUDA"),
        (FakeBuild(device=None), "sees no GPU"),
        (FakeBuild(architectures=("sm_80", "sm_90")), "nothing for sm_120"),
        # Kernels of one card alone are not those of its family.
        (FakeBuild(architectures=("sm_120a", "compute_120")), "nothing for sm_120"),
        (FakeBuild(device=RuntimeError("CUDA error: out of memory")), "out of memory"),
        (FakeBuild(device=("RTX 4090", "sm_89")), "name this one with --gpu"),
        (
            FakeBuild(error=RuntimeError("CUDA error: no kernel image\nis available")),
            "no kernel image is available",
        ),
        (FakeBuild(error=0.5), "differs by 0.5"),
        (FakeBuild(error=float("nan")), "differs by nan"),
    ],
)
def test_what_does_not_compute_is_told_with_the_way_out(build, says):
    found = check(build, CARD)
    assert not found.ok
    assert says in found.told
    assert "\n" not in found.told


def test_whichever_card_is_here_will_do_where_none_is_named():
    assert check(FakeBuild(architectures=("sm_86",), device=("RTX 4090", "sm_89")), None).ok


@pytest.mark.parametrize(
    ("kernels", "own", "runs"),
    [
        ("sm_120", "sm_120", True), ("sm_86", "sm_89", True), ("sm_89", "sm_86", False), ("sm_90", "sm_120", False),
        ("sm_12", "sm_120", False), ("sm_120", "sm_12", False), ("sm_90a", "sm_90", False), ("", "sm_90", False),
    ],
)  # fmt: skip
def test_kernels_run_on_their_family_and_not_on_what_is_older(kernels, own, runs):
    assert runs_on(kernels, own) is runs


@pytest.mark.parametrize("card", gpus().values(), ids=lambda card: card.name)
def test_the_build_that_is_locked_runs_on_every_card_that_is_described(card):
    assert check(FakeBuild(architectures=Torch().architectures, device=(card.title, card.architecture)), card).ok


def test_the_build_that_is_locked_has_the_kernels_of_the_desks_card():
    assert CARD.architecture in Torch().architectures
    assert Torch().cuda == "12.8"


def test_each_writes_its_part_and_keeps_the_others(tmp_path):
    path = tmp_path / "home" / "gpu-validation.json"
    assert read(path) == Validation()
    one, other = Seen(True, "2.9.1", "torch", AT), Seen(False, "triton 2.56", "why", AT)
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda k: record(path, torch=one) if k % 2 else record(path, triton=other), range(40)):
            pass
    assert read(path) == Validation(one, other)
    assert not read(path).ok
    assert record(path, triton=Seen(True, "triton 2.56", "fine", AT)).ok
    assert {p.name for p in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"torch": {"ok": 1}}', b'{"jax": null}', b"\xff"])
def test_a_file_that_is_not_understood_is_no_validation_and_the_next_check_replaces_it(tmp_path, content):
    path = tmp_path / "gpu-validation.json"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="delete it"):
        read(path)
    assert record(path, torch=Seen(True, "2.9.1", "fine", AT)).torch.ok
    assert json.loads(path.read_bytes())["triton"] is None


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="--out"):
        record(tmp_path / "file" / "x.json", torch=Seen(True, "2.9.1", "fine", AT))


def test_another_torch_than_was_tried_was_not_tried():
    fine = Validation(Seen(True, "2.9.1+cu128", "fine", AT), None)
    assert (
        words(fine, "2.9.1")
        == words(fine, "")
        == [
            f"torch computes on the GPU: fine ({AT})",
            "Triton was never tried on the GPU: `ultrathink gpu probe`",
        ]
    )
    assert is_of_another_torch(fine, "2.10.0")
    assert words(fine, "2.10.0")[0].startswith("torch 2.9.1+cu128 was tried on the GPU, and 2.10.0 is installed")


@pytest.mark.parametrize(
    "broken", ["raise ImportError('libcudnn.so.9: cannot open')", "raise OSError('libcublas.so.12: no such file')"]
)
def test_a_torch_that_cannot_be_loaded_takes_back_what_was_seen_before(tmp_path, broken):
    path = tmp_path / "gpu-validation.json"
    record(path, torch=Seen(True, "2.9.1", "fine", AT))
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(broken)
    done = subprocess.run(
        [sys.executable, "-c", "from stack.cli.main import run; run()", "gpu", "check", "--out", path],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be loaded: lib" in done.stdout
    assert not read(path).torch.ok


def test_the_command_refuses_without_a_gpu_and_writes_what_it_saw(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here: tests/gpu")
    path = tmp_path / "gpu-validation.json"
    words = [ULTRATHINK, "gpu", "check", "--gpu", "rtx5070", "--out", path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "does not compute" in done.stdout
    assert "sees no GPU" in done.stdout
    assert "sm_120" in done.stdout
    assert "Traceback" not in done.stderr
    found = read(path)
    assert (found.torch.ok, found.triton) == (False, None)
    # What cannot be noted is told all the same.
    nowhere = subprocess.run([*words[:3], "--out", "/proc/x/y.json"], capture_output=True, text=True, check=False)
    assert "sees no GPU" in nowhere.stdout
    assert (nowhere.returncode != 0, "--out" in nowhere.stderr) == (True, True)
    unknown = subprocess.run([*words[:3], "--gpu", "rtx9999"], capture_output=True, text=True, check=False)
    assert unknown.returncode != 0
    assert "rtx9999" in unknown.stderr
