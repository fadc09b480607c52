"""What was compiled is kept for the sources that it was compiled from, and for no others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import trading
from trading import compiled

SOURCES = Path(trading.__file__).parent


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package, whose digest is taken instead."""
    shutil.copytree(SOURCES, tmp_path / "trading", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(compiled, "HERE", tmp_path / "trading")
    compiled.sources_digest.cache_clear()
    yield tmp_path / "trading"
    compiled.sources_digest.cache_clear()


def digest():
    compiled.sources_digest.cache_clear()
    return compiled.sources_digest()


def test_a_change_of_any_source_that_may_be_compiled_is_another_folder(copy):
    before = digest()
    assert before == digest()
    for package in compiled.COMPILED:
        path = next(p for p in sorted((copy / package).rglob("*.py")) if p.read_text())
        path.write_text(path.read_text() + "\n# changed\n")
        after = digest()
        assert after != before, path
        before = after
    (copy / "history" / "readers.py").write_text("# read, not compiled\n")
    assert digest() == before


def test_everything_compiled_lies_where_the_digest_looks():
    for path in SOURCES.rglob("*.py"):
        text = path.read_text()
        if path.name != "compiled.py" and ("compiled import" in text or "njit" in text):
            assert path.relative_to(SOURCES).parts[0] in compiled.COMPILED, path


def test_the_folder_is_named_by_the_digest(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    assert compiled.cache_folder() == tmp_path / "kept" / digest()
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert compiled.cache_folder() == copy / "__pycache__" / digest()


def test_numba_is_told():
    assert str(numba.config.CACHE_DIR).endswith(digest())


def test_a_second_process_compiles_nothing(tmp_path):
    code = (
        "import numpy as np; from trading.models.prediction import usable_rows as f; "
        "f(*np.zeros((4, 1, 1), np.float32), 0.1); print(sum(f.stats.cache_hits.values()))"
    )
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def run():
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=SOURCES.parent, env=environment, capture_output=True, text=True, check=True
        )  # fmt: skip
        return int(done.stdout)

    assert (run(), run()) == (0, 1)
