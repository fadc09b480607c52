"""Installing compiles once, and keeps what was compiled of these sources alone."""

from __future__ import annotations

from gateway.precompile import forget_others
from trading.compiled import cache_folder


def test_what_was_compiled_of_other_sources_is_deleted_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    mine = cache_folder()
    for folder in (mine, tmp_path / ("0" * 16), tmp_path / "somebody-elses"):
        folder.mkdir()
        (folder / "kept.nbi").touch()
    (tmp_path / ("1" * 16)).touch()
    forget_others()
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, "somebody-elses", "1" * 16}
    assert (mine / "kept.nbi").is_file()
