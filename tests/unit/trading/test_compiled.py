"""What was compiled is kept for the sources that it was compiled from, and for no others."""

from __future__ import annotations

import ast
import os
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
    for path in sorted(copy.rglob("*.py")):
        if path.relative_to(copy).parts[0] == compiled.NOT_COMPILED:
            continue
        path.write_text(path.read_text() + "\n# changed\n")
        after = digest()
        assert after != before, path
        before = after
    (copy / "history" / "readers.py").write_text("# read, not compiled\n")
    assert digest() == before


def test_nothing_that_compiled_code_can_see_lies_outside():
    """What a module with compiled code imports, and what that imports."""
    seen, left = set(), [path for path in SOURCES.rglob("*.py") if "trading.compiled import" in path.read_text()]
    assert len(left) > 30
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        assert path.relative_to(SOURCES).parts[0] != compiled.NOT_COMPILED, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "trading":
                whole = SOURCES.parent.joinpath(*node.module.split("."))
                named = [whole / alias.name for alias in node.names]
                left += [
                    p
                    for base in (whole, *named)
                    for p in (base.with_suffix(".py"), base / "__init__.py")
                    if p.is_file()
                ]


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


def test_without_a_compiler_nothing_is_registered_and_everything_works():
    code = (
        "from gateway.precompile import Nobody; from trading.compiled import types_by_entry; "
        "import numpy as np; Nobody().predict(np.zeros((1, 32), np.float32), 1.0); print(types_by_entry())"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"
