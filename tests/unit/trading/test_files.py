"""Files are replaced whole."""

from __future__ import annotations

from trading.files import write_atomically


def test_files_are_replaced_whole_and_secrets_are_private(tmp_path):
    path = tmp_path / "x"
    write_atomically(path, "one", mode=0o600)
    write_atomically(path, "two", mode=0o600)
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o077 == 0
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
