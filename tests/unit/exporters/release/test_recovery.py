"""What a killed exporter began is settled only while what it would put back is still what is there."""

from __future__ import annotations

import contextlib
import shutil

import msgspec
import pytest
from msgspec.structs import replace

from exporters.errors import Busy, ExportError
from exporters.formats.config_pbtxt import Serving
from exporters.profiles import find_gpu
from exporters.release.journal import Entry, Journal, ReleaseChange
from exporters.release.releases import Releases
from exporters.release.triton_client import Loaded
from exporters.repository.repository import NONCE, ModelRepository
from tests.unit.exporters.models import publish_times
from trading.errors import UltraThinkError

NONE, ONE, TWO, THREE = Serving(), Serving(versions=(1,)), Serving(versions=(2,)), Serving(versions=(3,))


class FakeTriton:
    """Reads one folder, and keeps what it was asked to do."""

    address = "fake:8001"

    kind = "Triton"

    def __init__(self, root, served=()):
        self.root, self.served, self.asked = root, list(served), []

    def each(self):
        return (self,)

    def index(self):
        folders = [Loaded(p.name, 0, "UNAVAILABLE", "") for p in self.root.iterdir()] if self.root.is_dir() else []
        return [*folders, *self.served]

    def ready(self, name):
        return {m.version for m in self.index() if m.name == name and m.state == "READY"}

    def is_loaded(self, name):
        return any(m.name == name and m.state == "READY" for m in self.served)

    def sees(self, nonce):
        return any(model.name == nonce for model in self.index())

    def forget(self, name):
        with contextlib.suppress(UltraThinkError):
            self.unload(name)

    def load(self, name):
        self.asked.append(("load", name))

    def unload(self, name):
        self.asked.append(("unload", name))


@pytest.fixture
def repository(tmp_path):
    made = ModelRepository(tmp_path / "models")
    for factor in (2.0, 3.0, 4.0):
        publish_times(made, tmp_path, factor)
    return made


def begin(repository, number, before, after, name="times"):
    entry = Entry(f"t{number}", "begun", "release", name, 1, "now", "me", (ReleaseChange(name, before, after),))
    Journal(repository.state / "journal.jsonl").append(entry)
    return entry


def step(repository, entry, what):
    Journal(repository.state / "journal.jsonl").append(replace(entry, step=what, changes=()))


def configured(repository, serving):
    repository.configure(repository.lineage("times", 1).contract, serving)


def releases(repository, triton=None):
    triton = triton or FakeTriton(repository.root)
    return Releases(repository, triton, find_gpu("rtx5070"), lambda _: None), triton


def steps(repository):
    return [(e.id, e.step) for e in Journal(repository.state / "journal.jsonl").entries()]


def test_what_was_begun_is_undone_where_nobody_released_since(repository):
    configured(repository, replace(ONE, versions=(1, 2)))
    begin(repository, 1, ONE, TWO)
    own, triton = releases(repository)
    assert len(own.recover().settled) == 1
    assert repository.serving("times").versions == (1,)
    assert triton.asked == [("load", "times")]
    assert steps(repository)[-1] == ("t1", "undone")


@pytest.mark.parametrize("finished", ["flipped", "done"])
@pytest.mark.parametrize("after", [TWO, THREE])
def test_a_release_that_finished_meanwhile_is_not_undone(repository, finished, after):
    """The older one could not be settled while its lock was held; now what it would put back is long past."""
    begin(repository, 1, ONE, TWO)
    later = begin(repository, 2, ONE, after)
    step(repository, later, "flipped")
    if finished == "done":
        step(repository, later, "done")
    configured(repository, after)
    own, triton = releases(repository)
    own.recover()
    assert repository.serving("times").versions == after.versions
    assert ("unload", "times") not in triton.asked
    assert ("t1", "undone") in steps(repository)


def test_what_somebody_else_configured_since_is_left_alone(repository):
    begin(repository, 1, ONE, TWO)
    configured(repository, THREE)
    own, triton = releases(repository)
    own.recover()
    assert repository.serving("times").versions == (3,)
    assert triton.asked == []


def test_a_later_release_that_was_undone_does_not_hide_the_older_one(repository):
    configured(repository, replace(ONE, versions=(1, 2)))
    begin(repository, 1, ONE, TWO)
    step(repository, begin(repository, 2, ONE, THREE), "undone")
    own, _ = releases(repository)
    own.recover()
    assert repository.serving("times").versions == (1,)


def test_a_held_model_is_left_to_whoever_holds_it(repository):
    begin(repository, 1, ONE, TWO)
    own, triton = releases(repository)
    with repository.lock("times"):
        assert own.recover().settled == []
        with pytest.raises(Busy):
            own.release("times", 2)
    assert triton.asked == []


@pytest.mark.parametrize("how", ["disk", "server"])
@pytest.mark.parametrize("last", ["begun", "flipped"])
def test_one_that_can_be_neither_finished_nor_undone_keeps_nobody_else_from_anything(
    repository, tmp_path, how, last
):
    publish_times(repository, tmp_path, 5.0, name="other")
    told = []

    class Refusing(FakeTriton):
        def load(self, name):
            super().load(name)
            if how == "server" and name == "times":
                raise ExportError("Triton does not load times")

    for served in ("times", "other"):
        repository.configure(repository.lineage(served, 1).contract, ONE)
    stuck = begin(repository, 1, ONE, TWO)
    if last == "flipped":
        step(repository, stuck, "flipped")
    begin(repository, 2, ONE, ONE, name="other")
    if how == "disk":
        shutil.rmtree(repository.root / "times" / "configs")
        (repository.root / "times" / "configs").write_bytes(b"no folder")
    triton = Refusing(repository.root)
    own = Releases(repository, triton, find_gpu("rtx5070"), told.append)
    done = own.recover()
    assert [t.begun.id for t in done.settled] == ["t2"]
    assert [(s.transaction.begun.id, s.transaction.open) for s in done.stuck] == [("t1", True)]
    assert done.stuck[0].reason
    assert any("leave the release of times 1 open" in line for line in told)
    assert steps(repository)[-1] == ("t2", "undone")
    assert repository.serving("other") == ONE
    # Once it can be, the next command settles it.
    how = ""
    if (repository.root / "times" / "configs").is_file():
        (repository.root / "times" / "configs").unlink()
    assert [t.begun.id for t in own.recover().settled] == ["t1"]
    assert own.recover().stuck == []


# ---- another folder's server --------------------------------------------------------------------


def test_a_server_of_another_folder_is_refused_before_anything_begins(repository, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    own, triton = releases(repository, FakeTriton(other, [Loaded("times", 7, "READY", "")]))
    before = sorted(p.name for p in repository.root.iterdir())
    with pytest.raises(ExportError, match=f"does not serve from {repository.root}"):
        own.release("times", 1)
    assert triton.asked == []
    assert steps(repository) == []
    assert sorted(p.name for p in repository.root.iterdir()) == before


def test_an_equal_version_in_another_folder_is_no_release(repository, tmp_path):
    other = ModelRepository(tmp_path / "other" / "models")
    publish_times(other, tmp_path / "other", 2.0)
    own, triton = releases(repository, FakeTriton(other.root, [Loaded("times", 1, "READY", "")]))
    with pytest.raises(ExportError, match="does not serve from"):
        own.release("times", 1)
    assert triton.asked == []


def test_what_the_server_has_and_the_repository_does_not_know_of_is_not_replaced(repository):
    own, triton = releases(repository, FakeTriton(repository.root, [Loaded("times", 9, "READY", "")]))
    with pytest.raises(ExportError, match="serves times 9, and .*config.pbtxt does not say so"):
        own.release("times", 1)
    assert triton.asked == []
    assert steps(repository) == []


def test_an_interrupted_release_is_not_settled_on_another_folders_server(repository, tmp_path):
    configured(repository, TWO)
    begin(repository, 1, NONE, TWO)
    other = tmp_path / "other"
    other.mkdir()
    own, triton = releases(repository, FakeTriton(other, [Loaded("times", 7, "READY", "")]))
    with pytest.raises(ExportError, match="does not serve from"):
        own.recover()
    assert triton.asked == []
    assert steps(repository) == [("t1", "begun")]


def test_a_nonce_is_gone_afterwards_and_what_a_killed_exporter_left_is_no_model(repository):
    (repository.root / f"{NONCE}left").mkdir()
    with repository.nonce() as nonce:
        assert (repository.root / nonce).is_dir()
        assert repository.names() == ["times"]
    assert not (repository.root / nonce).exists()


# ---- names are no paths -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../../x", "/etc/passwd", "..", ".", "", "a/b", "a\n", ".hidden"])
def test_a_name_that_leads_out_of_the_repository_is_refused(repository, name, tmp_path):
    for use in (
        lambda: repository.lock(name).__enter__(),
        lambda: repository.folder(name, 1),
        lambda: repository.serving(name),
        lambda: repository.versions(name),
        lambda: repository.configure(replace(repository.lineage("times", 1).contract, name=name), ONE),
    ):
        with pytest.raises(ExportError, match="no model's name"):
            use()
    assert {p.name for p in tmp_path.glob("**/*.lock")} == {"times.lock"}


def test_a_journal_that_names_a_path_is_refused_with_its_line(repository):
    begin(repository, 1, ONE, TWO)
    begin(repository, 2, ONE, TWO, name="../../x")
    with pytest.raises(ExportError, match="line 2 is no release"):
        releases(repository)[0].recover()


@pytest.mark.parametrize("line", [b"rubbish", b"\xff", b"[" * 10_000, b"{}"])
def test_a_journal_that_cannot_be_read_is_refused_with_its_line(repository, line):
    begin(repository, 1, ONE, TWO)
    path = repository.state / "journal.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ExportError, match="line 2 is no release"):
        Journal(path).entries()


@pytest.mark.parametrize(
    "change", [{"files": {"../../x": "0"}}, {"files": {"/etc/passwd": "0"}}, {"contract": "other"}]
)
def test_a_lineage_that_names_a_path_or_another_model_is_refused(repository, change):
    path = repository.folder("times", 1) / "lineage.json"
    told = msgspec.json.decode(path.read_bytes())
    if "files" in change:
        told["files"] = change["files"]
    else:
        told["contract"]["name"] = change["contract"]
    path.write_bytes(msgspec.json.encode(told))
    with pytest.raises(ExportError, match="is not of times"):
        repository.verified_lineage("times", 1)
