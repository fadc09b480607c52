"""Installing compiles once; what was compiled of older sources goes when nobody can want it."""

from __future__ import annotations

import os
import time

import pytest

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
