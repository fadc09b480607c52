"""Versions appear whole, are never replaced, and say where they come from."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exporters.errors import Busy, ExportError
from exporters.formats.config_pbtxt import Serving
from exporters.release.journal import Entry, Journal, ReleaseChange
from exporters.release.versions import protected, prune, rows
from exporters.repository.repository import ModelRepository
from exporters.verify import verify
from tests.unit.exporters.models import publish_times, write_times
from trading.models.signature import REGIME_DETECTION


@pytest.fixture
def repository(tmp_path):
    return ModelRepository(tmp_path / "models")


def test_a_version_appears_whole_with_lineage_and_golden_rows(repository, tmp_path):
    assert publish_times(repository, tmp_path, 2.0) == 1
    assert publish_times(repository, tmp_path, 3.0) == 2
    lineage = repository.verified_lineage("times", 1)
    assert lineage.model == f"file:{tmp_path}/2.0/model.onnx"
    assert set(lineage.files) == {"model.onnx", "golden.npz"}
    assert lineage.tools["onnx"]
    assert len(lineage.source_sha256) == 64
    asked, wanted = repository.golden(lineage.contract, 1)
    np.testing.assert_array_equal(wanted[0], asked[0] * np.float32(2))
    assert not any(p.is_dir() for p in repository.staging.iterdir())
    assert sorted(p.name for p in repository.root.iterdir()) == ["times"]


def test_publishing_serves_nothing(repository, tmp_path):
    publish_times(repository, tmp_path, 2.0)
    assert repository.serving("times").versions == ()
    assert [(r.state, r.serving) for r in rows(repository, None)] == [("published", False)]


def test_what_fails_half_way_leaves_nothing(repository):
    with pytest.raises(RuntimeError, match="half-way"), repository.stage("m") as folder:
        (folder / "model.onnx").write_bytes(b"2")
        raise RuntimeError("half-way")
    assert list(repository.staging.iterdir()) == []
    assert repository.names() == []


def test_a_first_version_comes_with_its_configuration_or_not_at_all(tmp_path):
    class Full(ModelRepository):
        def configure(self, *given, **named):
            super().configure(*given, **named)
            raise OSError(errno.ENOSPC, "no space left")

    with pytest.raises(ExportError, match="no space is left"):
        publish_times(Full(tmp_path / "models"), tmp_path, 2.0)
    repository = ModelRepository(tmp_path / "models")
    assert repository.names() == []
    assert publish_times(repository, tmp_path, 2.0) == 1
    # One that is there, and whatever else lies in its folder, stays.
    (repository.root / "times" / "config.pbtxt").unlink()
    with pytest.raises(ExportError, match="no space is left"):
        publish_times(Full(tmp_path / "models"), tmp_path, 3.0)
    assert repository.versions("times") == [1]


def test_a_dry_run_writes_nothing(repository, tmp_path):
    assert publish_times(repository, tmp_path, 2.0, dry_run=True) == 0
    assert not repository.root.exists()
    assert not repository.state.exists()


def test_numbers_are_read_as_triton_reads_them(repository, tmp_path):
    for name in ("2.tmp", "007", "x9", "+4"):
        (repository.root / "times" / name).mkdir(parents=True)
    assert repository.versions("times") == [2, 4, 7]
    assert publish_times(repository, tmp_path, 2.0) == 8


def test_a_folder_that_somebody_else_put_there_is_named_and_left_alone(repository, tmp_path):
    (repository.root / "times" / "1").mkdir(parents=True)
    (repository.root / "times" / "1" / "model.onnx").write_bytes(b"theirs")
    assert publish_times(repository, tmp_path, 2.0) == 2
    with pytest.raises(ExportError, match="somebody else put it there"):
        repository.verified_lineage("times", 1)
    assert [r.state for r in rows(repository, None)] == ["foreign", "published"]
    prune(repository, "times", 0)
    assert repository.versions("times") == [1]


def test_a_version_that_was_changed_is_refused(repository, tmp_path):
    publish_times(repository, tmp_path, 2.0)
    (repository.folder("times", 1) / "model.onnx").write_bytes(b"other")
    with pytest.raises(ExportError, match="was changed since"):
        repository.verified_lineage("times", 1)


@pytest.mark.parametrize("name", ["9" * 400 + "model.onnx", "gone", "\0", "", ".", ".."])
def test_a_lineage_that_names_what_is_no_file_of_it_is_refused(repository, tmp_path, name):
    publish_times(repository, tmp_path, 2.0)
    path = repository.folder("times", 1) / "lineage.json"
    lineage = json.loads(path.read_bytes())
    lineage["files"] = {name: "0" * 64}
    path.write_text(json.dumps(lineage))
    with pytest.raises(ExportError, match="was changed since|is not of times"):
        repository.verified_lineage("times", 1)


def test_an_unknown_version_names_the_known_ones(repository, tmp_path):
    publish_times(repository, tmp_path, 2.0)
    with pytest.raises(ExportError, match=r"no version 9 .* there is 1"):
        repository.verified_lineage("times", 9)


def test_a_second_exporter_is_told_who_holds_the_model(repository):
    with (
        repository.lock("a", "b"),
        pytest.raises(Busy, match=rf"holds b .*process {os.getpid()} of"),
        repository.lock("b"),
    ):
        pass


def hold(root, ready, end):
    with ModelRepository(root).lock("m"):
        ready.set()
        end.wait()


def test_a_killed_holder_holds_nothing(repository):
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    other = context.Process(target=hold, args=(repository.root, ready, end))
    other.start()
    assert ready.wait(60)
    with pytest.raises(Busy), repository.lock("m"):
        pass
    other.kill()
    other.join()
    with repository.lock("m"):
        pass


def released(repository, *versions, name="times"):
    """Say in journal and configuration that these were released, in this order."""
    journal, before = Journal(repository.state / "journal.jsonl"), Serving()
    for k, version in enumerate(versions):
        after = Serving(versions=(version,))
        begun = Entry(str(k), "begun", "release", name, version, "t", "u", (ReleaseChange(name, before, after),))
        journal.append(begun)
        journal.append(Entry(str(k), "done", "release", name, version, "t", "u"))
        before = after
    repository.configure(repository.lineage(name, versions[-1]).contract, before)


def test_recorded_ticks_for_a_model_without_features_are_refused(repository, tmp_path):
    publish_times(repository, tmp_path, 2.0)
    with pytest.raises(ExportError, match="does not read the gateway's features"):
        verify("times", 1, repository, None, "", lambda _: None, recorded="simulate:calm")
    assert verify("times", 1, repository, None, "", lambda _: None).passed


def test_prune_keeps_what_is_served_and_the_way_back(repository, tmp_path):
    for factor in range(1, 7):
        publish_times(repository, tmp_path, float(factor))
    released(repository, 1, 2, 4)
    assert protected(repository, "times") == {2: "last good", 4: "served"}
    assert [v for v, _ in prune(repository, "times", 1, dry_run=True)] == [1, 3, 5]
    assert [v for v, _ in prune(repository, "times", 1)] == [1, 3, 5]
    assert repository.versions("times") == [2, 4, 6]
    assert all(size > 0 for _, size in prune(repository, "times", 0))


def test_a_torn_line_is_cut_off_and_a_broken_one_is_named(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    entry = Entry("a", "begun", "release", "m", 1, "t", "u", (ReleaseChange("m", Serving(), Serving((1,))),))
    journal.append(entry)
    with journal.path.open("ab") as file:
        file.write(b'{"id":"b","st')
    assert [t.open for t in journal.transactions()] == [True]
    journal.append(Entry("a", "done", "release", "m", 1, "t", "u"))
    assert [t.open for t in journal.transactions("m")] == [False]
    assert journal.transactions("other") == []
    assert journal.path.read_bytes().count(b"\n") == 2
    journal.path.write_bytes(b"rubbish\n" + journal.path.read_bytes())
    with pytest.raises(ExportError, match="line 1"):
        journal.entries()


def test_configurations_are_not_touched_where_they_are_right(repository):
    repository.configure(REGIME_DETECTION, Serving((1,)))
    files = sorted(p for p in (repository.root / "regime_detection").rglob("*") if p.is_file())
    before = [p.stat().st_mtime_ns for p in files]
    repository.configure(REGIME_DETECTION, Serving((1,)))
    assert [p.stat().st_mtime_ns for p in files] == before
    assert {p.name for p in files} == {"config.pbtxt", "cpu.pbtxt", "features"}


MOUNT = (
    shutil.which("unshare")
    and not subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode
)


@pytest.mark.skipif(not MOUNT, reason="no mount namespaces here")
@pytest.mark.parametrize(
    ("mount", "says"),
    [
        ("mount -t tmpfs -o size=48k none {0}", "no space is left"),
        ("mount --bind {0} {0} && mount -o remount,bind,ro {0}", "cannot be written: Read-only"),
    ],
)
def test_a_full_or_read_only_disk_is_a_sentence_and_leaves_nothing(tmp_path, mount, says):
    home = tmp_path / "disk"
    home.mkdir()
    model = write_times(tmp_path / "model.onnx", 2.0, width=2000)
    command = (
        f"{mount.format(home)} && {Path(sys.executable).parent}/ultrathink export model {model} --repository {home}/models; "
        f"code=$?; find {home} -type d; exit $code"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert "/1" not in done.stdout
    assert "~" not in done.stdout
