"""What the orchestrator works with."""

from __future__ import annotations

from stack.workflows.orchestrator.running import Served


def test_a_dataset_that_a_run_has_built_is_deleted_and_no_other_folder_is(tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path))
    theirs = [
        tmp_path / "datasets" / "november",
        tmp_path / "datasets" / "0123456789ab" / "deeper",
        tmp_path / "mine",
    ]
    for folder in (tmp_path / "datasets" / "0123456789ab", *theirs):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (*theirs, tmp_path / "datasets" / ".." / "mine", tmp_path / "nothing"):
        Served().forget(str(folder))
    assert all(folder.is_dir() for folder in theirs)
    Served().forget(str(tmp_path / "datasets" / "0123456789ab"))
    assert not (tmp_path / "datasets" / "0123456789ab").exists()
