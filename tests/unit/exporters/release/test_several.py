"""A release to several Tritons is whole in all of them, or undone in all that answer."""

from __future__ import annotations

import pytest

from exporters.errors import ExportError, ParityError
from exporters.profiles import find_gpu
from exporters.release.candidate import CANDIDATE
from exporters.release.journal import ReleaseChange
from exporters.release.releases import Releases
from exporters.release.settling import put
from exporters.release.triton_client import Loaded
from exporters.release.triton_servers import TritonServers, connect
from exporters.repository.repository import ModelRepository
from tests.unit.exporters.models import publish_times
from tests.unit.exporters.release.test_releases import ServingTriton
from trading.errors import ServiceUnavailable


class OneOfTwo(ServingTriton):
    """Tells in a common list what it loads; may be gone, refuse, or answer otherwise."""

    def __init__(self, repository, address, told):
        super().__init__(repository)
        self.address, self.told = address, told
        self.gone, self.refuses, self.lies = False, "", False

    def load(self, name):
        self._answer()
        if name == self.refuses:
            raise ExportError(f"Triton at {self.address} does not load {name}: no")
        self.told.append((self.address, *self.repository.serving(name).versions))
        super().load(name)

    def load_copy(self, signature, config_json, version, content):
        self._answer()
        if signature.name == self.refuses:
            raise ExportError(f"Triton at {self.address} does not load {signature.name}: no")
        super().load_copy(signature, config_json, version, content)

    def unload(self, name):
        self._answer()
        super().unload(name)

    def index(self):
        self._answer()
        return super().index()

    def run(self, signature, version):
        answer = super().run(signature, version)
        return (lambda arrays: [found + 1 for found in answer(arrays)]) if self.lies else answer

    def _answer(self):
        if self.gone:
            raise ServiceUnavailable(f"Triton at {self.address} does not answer")


class Desk:
    def __init__(self, folder):
        self.repository, self.told = ModelRepository(folder / "models"), []
        for factor in (2.0, 3.0, 4.0):
            publish_times(self.repository, folder, factor)
        self.a, self.b = (OneOfTwo(self.repository, f"{name}:8001", self.told) for name in "ab")
        self.servers = TritonServers([self.a, self.b])
        self.releases = Releases(self.repository, self.servers, find_gpu("rtx5070"), lambda _: None)
        self.releases.release("times", 1)
        self.releases.release("times", 2)

    def serves(self):
        return [sorted(one.version for one in server.served if one.name == "times") for server in (self.a, self.b)]

    def is_as_before(self):
        copies = [one.name for server in (self.a, self.b) for one in server.served if one.name != "times"]
        return self.serves() == [[1, 2], [1, 2]] and self.repository.serving("times").released == 2 and not copies


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_all_serve_it_and_the_first_is_the_last_to_load_it(desk):
    desk.told.clear()
    done = desk.releases.release("times", 3)
    assert (done.version, done.previous, done.device) == (3, 2, "cpu")
    assert desk.serves() == [[2, 3], [2, 3]]
    assert [address for address, *versions in desk.told if 3 in versions][:2] == ["b:8001", "a:8001"]
    assert desk.releases.rollback("times").version == 2
    assert desk.serves() == [[2], [2]]
    assert desk.servers.address == "a:8001,b:8001"


@pytest.mark.parametrize("which", ["a", "b"])
def test_one_that_does_not_load_it_keeps_it_from_all(desk, which):
    getattr(desk, which).refuses = "times" + CANDIDATE
    with pytest.raises(ExportError, match=f"{which}:8001 does not load"):
        desk.releases.release("times", 3)
    assert desk.is_as_before()
    assert desk.releases.recover().settled == []


@pytest.mark.parametrize("which", ["a", "b"])
def test_one_that_answers_otherwise_keeps_it_from_all(desk, which):
    getattr(desk, which).lies = True
    with pytest.raises(ParityError, match=f"version 3 on {which}:8001"):
        desk.releases.release("times", 3)
    assert desk.is_as_before()


@pytest.mark.parametrize("which", ["a", "b"])
def test_one_that_does_not_answer_keeps_it_from_all(desk, which):
    getattr(desk, which).gone = True
    with pytest.raises(ServiceUnavailable, match=f"{which}:8001 does not answer"):
        desk.releases.release("times", 3)
    getattr(desk, which).gone = False
    assert desk.is_as_before()


def test_one_that_reads_another_folder_is_named(desk, tmp_path):
    (tmp_path / "other").mkdir()
    desk.b.root = tmp_path / "other"
    with pytest.raises(ExportError, match=r"Triton at b:8001 does not serve from"):
        desk.releases.release("times", 3)
    assert desk.is_as_before()


def test_what_only_one_serves_of_another_repository_is_named(desk, tmp_path):
    publish_times(desk.repository, tmp_path, 2.0, name="other")
    desk.b.serve("other", [7])
    with pytest.raises(ExportError, match="b:8001 serves other 7"):
        desk.releases.release("other", 1)
    assert desk.serves() == [[1, 2], [1, 2]]


@pytest.mark.parametrize("which", ["a", "b"])
def test_one_that_goes_in_the_middle_leaves_the_other_as_it_was(desk, which):
    """The widened configuration is loaded in the last; then one of them is gone."""

    def go():
        getattr(desk, which).gone = True

    desk.b.meanwhile = go
    with pytest.raises(ServiceUnavailable, match=f"{which}:8001 does not answer"):
        desk.releases.release("times", 3)
    assert desk.serves()["ab".index("b" if which == "a" else "a")] == [1, 2]
    assert desk.repository.serving("times").released == 2
    # Back, it is settled in it too by whoever comes next.
    getattr(desk, which).gone = False
    desk.b.meanwhile = lambda: None
    assert len(desk.releases.recover().settled) == 1
    assert desk.is_as_before()


def goes_after(server, loads):
    """It is gone at the load after so many from now on."""
    left, load = [loads], server.load

    def late(name):
        left[0] -= 1
        server.gone = server.gone or left[0] < 0
        load(name)

    server.load = late


@pytest.mark.parametrize("which", ["a", "b"])
def test_one_that_goes_after_the_flip_keeps_what_is_left_from_no_other(desk, which):
    """A rollback: the other must not go on with the version that was left, whoever gateways follow."""
    gone, other = (desk.a, desk.b) if which == "a" else (desk.b, desk.a)
    # What was kept is loaded: the way back loads once, to leave the other.
    goes_after(gone, 0)
    with pytest.raises(ExportError, match=f"times 1 is served, .*{which}:8001 does not answer"):
        desk.releases.rollback("times")
    assert other.ready("times") == {1}
    assert desk.repository.serving("times").versions == (1,)
    gone.gone = False
    del gone.load
    assert len(desk.releases.recover().settled) == 1
    assert desk.serves() == [[1], [1]]


def test_whoever_interrupts_what_is_left_is_told_what_is_served(desk):
    load, calls = desk.b.load, []

    def interrupted(name):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        load(name)

    desk.b.load = interrupted
    with pytest.raises(ExportError, match="times 3 is served, .*interrupted.*recover --triton-url a:8001,b:8001"):
        desk.releases.release("times", 3)
    del desk.b.load
    assert len(desk.releases.recover().settled) == 1
    assert desk.serves() == [[2, 3], [2, 3]]


def test_what_went_wrong_first_is_told(desk):
    desk.a.refuses, desk.b.gone = "times", True
    change = ReleaseChange("times", desk.repository.serving("times"), desk.repository.serving("times"))
    lost = put(desk.repository, desk.servers, [(change, change.after)])
    assert "a:8001 does not load" in str(lost)


def test_of_several_that_do_not_answer_the_way_on_is_told():
    with pytest.raises(
        ServiceUnavailable, match=r"127\.0\.0\.1:1 does not answer.*name the others: --triton-url h:2,h:3"
    ):
        connect(["127.0.0.1:1", "h:2", "h:3"])


def test_of_a_version_that_goes_the_first_is_the_first_that_has_it_no_more(desk):
    desk.told.clear()
    desk.releases.rollback("times")
    assert [address for address, *versions in desk.told if versions == [1]] == ["a:8001", "b:8001"]


def test_whoever_interrupts_while_copies_are_loaded_leaves_none(desk):
    load_copy = desk.b.load_copy
    calls = []

    def interrupted(signature, *given):
        calls.append(signature.name)
        if len(calls) == 1:
            raise KeyboardInterrupt
        load_copy(signature, *given)

    desk.b.load_copy = interrupted
    with pytest.raises(KeyboardInterrupt):
        desk.releases.release("times", 3)
    assert calls
    assert desk.is_as_before()


def test_what_all_know_is_ready_where_all_are(desk):
    desk.b.served = [Loaded("times", 1, "LOADING", ""), Loaded("mine", 1, "READY", "")]
    states = {(one.name, one.version): one.state for one in desk.servers.index() if one.version}
    assert states == {("times", 1): "LOADING"}
    assert desk.servers.ready("times") == set()
    assert desk.servers.is_loaded("mine")


def test_what_one_does_not_unload_is_unloaded_in_the_others(desk):
    for gone, other in ((desk.a, desk.b), (desk.b, desk.a)):
        gone.gone = True
        with pytest.raises(ServiceUnavailable):
            desk.servers.unload("times")
        gone.gone = False
        assert other.asked[-1] == ("unload", "times")


def test_what_was_released_meanwhile_is_not_rolled_back(desk):
    with pytest.raises(ExportError, match="times serves version 2 by now, and not 3: it stays"):
        desk.releases.rollback("times", 1, instead_of=3)
    assert desk.serves() == [[1, 2], [1, 2]]
    assert desk.releases.rollback("times", 1, instead_of=2).version == 1
    assert desk.serves() == [[1], [1]]
