"""Installing compiles once; what was compiled of older sources goes when nobody can want it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trading
from gateway.precompile import KEPT_S, forget_old
from trading.compiled import MARKER, cache_folder, mark


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


def aged(folder, seconds):
    mark(folder)
    then = time.time() - seconds
    os.utime(folder / MARKER, (then, then))


def test_only_what_is_ours_and_old_is_deleted(kept):
    aged(kept / "old", KEPT_S + 60)
    aged(kept / "another release", KEPT_S - 60)
    (kept / ("0" * 16)).mkdir()
    (kept / ("1" * 16)).touch()
    forget_old()
    assert {path.name for path in kept.iterdir()} == {cache_folder().name, "another release", "0" * 16, "1" * 16}


def test_what_is_in_use_stays_however_old(kept):
    aged(cache_folder(), 2 * KEPT_S)
    forget_old()
    assert (cache_folder() / MARKER).is_file()


def test_a_folder_that_cannot_be_written_is_a_sentence_before_anything_is_compiled(tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "file" / "below")}
    done = subprocess.run(
        [sys.executable, "-m", "gateway.precompile"], env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "NUMBA_CACHE_DIR" in done.stderr
    assert "Traceback" not in done.stderr


def entries():
    """Every function that is kept when compiled."""
    found = set()
    for path in Path(trading.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(d, ast.Name) and d.id == "entry" for d in node.decorator_list
            ):
                found.add(f"{path.stem}.{node.name}")
    return found


@pytest.mark.slow
def test_an_installation_compiles_every_entry_point(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-m", "gateway.precompile"], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    kept = {path.name.rpartition("-")[0] for path in tmp_path.rglob("*.nbi")}
    assert len(entries()) >= 10
    assert kept == entries()
