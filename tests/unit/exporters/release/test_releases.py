"""A release that is kept from its end is undone or said to be unfinished; and the way back is what was served."""

from __future__ import annotations

import shutil

import pytest

from exporters.errors import Busy, ExportError
from exporters.profiles import find_gpu
from exporters.release.candidate import CANDIDATE
from exporters.release.releases import Releases
from exporters.release.triton_client import Loaded
from exporters.release.versions import prune, rows
from exporters.repository.names import numbers
from exporters.repository.repository import ModelRepository
from exporters.sources.running import run_file
from tests.unit.exporters.models import publish_times
from tests.unit.exporters.release.test_recovery import FakeTriton


class ServingTriton(FakeTriton):
    """Serves what the configurations say, and answers as the files do."""

    def __init__(self, repository, meanwhile=lambda: None):
        super().__init__(repository.root)
        self.repository, self.meanwhile = repository, meanwhile

    def serve(self, name, versions):
        self.served = [one for one in self.served if one.name != name]
        self.served += [Loaded(name, v, "READY", "") for v in versions]

    def load(self, name):
        super().load(name)
        self.serve(name, self.repository.serving(name).versions)
        self.meanwhile()

    def load_copy(self, signature, config_json, version, content):
        self.serve(signature.name, [version])

    def unload(self, name):
        super().unload(name)
        self.serve(name, [])

    def devices(self):
        return ("cpu",)

    def device(self, name, version):
        return "cpu"

    def run(self, signature, version):
        name = signature.name.removesuffix(CANDIDATE)
        contract = self.repository.lineage(name, version).contract
        return run_file(contract, self.repository.folder(name, version) / contract.file_name)


@pytest.fixture
def desk(tmp_path):
    """Three versions, the first two released one after the other."""
    repository = ModelRepository(tmp_path / "models")
    for factor in (2.0, 3.0, 4.0):
        publish_times(repository, tmp_path, factor)
    triton, told = ServingTriton(repository), []
    releases = Releases(repository, triton, find_gpu("rtx5070"), told.append)
    releases.release("times", 1)
    releases.release("times", 2)
    return repository, triton, releases, told


def once(action):
    """Does it at the first call only."""
    left = [action]

    def do():
        if left:
            left.pop()()

    return do


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_interrupts_a_release_before_its_flip_undoes_it(desk, error):
    repository, triton, releases, _ = desk

    def interrupted():
        raise error

    triton.meanwhile = once(interrupted)
    with pytest.raises((KeyboardInterrupt, ExportError)):
        releases.release("times", 3)
    assert triton.ready("times") == {1, 2}
    assert repository.serving("times").versions == (1, 2)
    assert releases.recover().settled == []


def full_at(releases, step):
    """Its journal cannot be written at a step; returns what ends that."""
    append = releases._journal.append

    def full(entry):
        if entry.step == step:
            raise OSError(28, "No space left on device")
        append(entry)

    releases._journal.append = full
    return lambda: setattr(releases._journal, "append", append)


def test_a_journal_that_cannot_be_written_at_the_flip_undoes_it(desk):
    repository, triton, releases, _ = desk
    full_at(releases, "flipped")
    with pytest.raises(ExportError, match="no space is left"):
        releases.release("times", 3)
    assert triton.ready("times") == {1, 2}
    assert repository.serving("times").released == 2


def test_one_that_is_served_and_not_settled_says_so(desk):
    repository, triton, releases, _ = desk
    free = full_at(releases, "done")
    with pytest.raises(ExportError, match="times 3 is served, and what is left to do is not done: .*No space left"):
        releases.release("times", 3)
    assert max(triton.ready("times")) == 3
    free()
    assert len(releases.recover().settled) == 1
    assert repository.serving("times").released == 3


def test_released_once_more_it_keeps_what_is_kept_beside_it(desk):
    _, triton, releases, _ = desk
    assert releases.release("times", 2).version == 2
    assert triton.ready("times") == {1, 2}


def test_a_rollback_serves_that_version_alone_also_upwards(desk):
    _, triton, releases, _ = desk
    releases.rollback("times", 1)
    assert triton.ready("times") == {1}
    releases.rollback("times", 2)
    assert triton.ready("times") == {2}


def test_rollbacks_go_further_back_and_never_to_what_was_left(desk, tmp_path):
    repository, _, releases, _ = desk
    releases.release("times", 3)
    assert [releases.rollback("times").version for _ in range(2)] == [2, 1]
    with pytest.raises(ExportError, match="times serves version 1, the first that was released"):
        releases.rollback("times")
    # Forwards where that is said; and from there the same way back.
    assert releases.rollback("times", 3).version == 3
    assert releases.rollback("times").version == 1
    releases.release("times", 2)
    releases.release("times", publish_times(repository, tmp_path, 5.0))
    releases.release("times", 2)
    assert [releases.rollback("times").version for _ in range(3)] == [4, 2, 1]


def test_a_rollback_whose_way_changed_while_it_waited_is_refused(desk, monkeypatch):
    repository, triton, releases, _ = desk
    other = Releases(repository, triton, find_gpu("rtx5070"), lambda _: None)
    lineage = repository.verified_lineage

    def slow(name, version):
        monkeypatch.setattr(repository, "verified_lineage", lineage)
        other.release("times", 3)
        return lineage(name, version)

    monkeypatch.setattr(repository, "verified_lineage", slow)
    with pytest.raises(Busy, match="was released meanwhile, and would go back to 2 now"):
        releases.rollback("times")
    assert repository.serving("times").released == 3


def test_a_number_is_never_used_again(desk, tmp_path):
    repository, _, releases, _ = desk
    releases.release("times", 3)
    releases.rollback("times", 1)
    releases.rollback("times", 2)
    assert [v for v, _ in prune(repository, "times", 0)] == [3]
    assert publish_times(repository, tmp_path, 5.0) == 4
    with pytest.raises(ExportError, match="never released"):
        releases.rollback("times", 4)


@pytest.mark.parametrize("how", ["file", "link", "long"])
def test_what_has_a_versions_name_and_is_none_takes_the_number(desk, tmp_path, how):
    repository, *_ = desk
    if how == "file":
        (repository.root / "times" / "4").write_text("")
    elif how == "link":
        (repository.root / "times" / "4").symlink_to(tmp_path / "nowhere")
    else:
        (repository.root / "times" / "99999999999999999999").mkdir()
    assert publish_times(repository, tmp_path, 5.0) == (4 if how == "long" else 5)


def test_what_is_no_number_to_triton_is_none_here():
    assert numbers(["3", "+4", "7.tmp", "x1", "٣٤", "9" * 20]) == [3, 4, 7]


def test_foreign_folders_keep_nobody_from_anything(desk):
    repository, _, releases, _ = desk
    for name in ("__pycache__", "_old", "lost+found"):
        (repository.root / name).mkdir()
    for name, config in (("theirs", b"\xff\xfe"), ("other", b"surprise: 1")):
        (repository.root / name / "1").mkdir(parents=True)
        (repository.root / name / "config.pbtxt").write_bytes(config)
    assert repository.names() == ["other", "theirs", "times"]
    assert [r.state for r in rows(repository, None, "theirs")] == ["foreign"]
    assert releases.release("times", 3).version == 3
    assert releases.rollback("times").version == 2
    # Of our own models it is known what they must say.
    (repository.root / "times" / "config.pbtxt").write_text("surprise: 1")
    with pytest.raises(ExportError, match="is no Triton configuration"):
        releases.release("times", 3)


def test_a_broken_version_of_one_model_keeps_nobody_from_listing_the_others(desk, tmp_path):
    repository, *_ = desk
    publish_times(repository, tmp_path, 2.0, name="other")
    (repository.folder("times", 1) / "lineage.json").write_bytes(b"")
    assert {r.model for r in rows(repository, None)} == {"other", "times"}
    shutil.rmtree(repository.folder("times", 1))
    assert prune(repository, "other", 1) == []
