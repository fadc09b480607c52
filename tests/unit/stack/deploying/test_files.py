"""What is checked in of `deploy/` is what would be made now."""

from __future__ import annotations

from stack.deploying import files
from tests.paths import ROOT


def test_the_files_that_are_checked_in_are_those_that_would_be_made():
    assert files.stale(ROOT) == []


def test_a_file_that_was_changed_by_hand_is_named_and_made_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert files.main([]) == 0
    assert files.main(["--check"]) == 0
    changed = tmp_path / "deploy/prometheus/alerts.yml"
    changed.write_text(changed.read_text().replace("critical", "warning"))
    assert files.main(["--check"]) == 1
    assert "deploy/prometheus/alerts.yml is stale" in capsys.readouterr().err
    assert files.main([]) == 0
    assert files.stale(tmp_path) == []
