"""A path that a shell and a Java program can be given."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from stack.servers.plain_paths import PLAIN, places_of_links, plain
from stack.servers.server import NotReady
from stack.servers.triton import Probe
from trading.errors import ConfigurationError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_plain_path_is_itself(tmp_path):
    assert plain(tmp_path / "home") == tmp_path / "home"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["a b", "(neu)", "Börse", "a,b", "$HOME", "a;b", "'"])
def test_another_is_reached_through_a_link(tmp_path, name):
    folder = tmp_path / name / "home"
    link = plain(folder)
    assert PLAIN.fullmatch(str(link))
    assert plain(folder) == link
    assert plain(tmp_path / name / "other") != link
    folder.mkdir(parents=True)
    (link / "file").write_text("x")
    assert (folder / "file").read_text() == "x"


def test_a_link_that_points_elsewhere_is_set_right(tmp_path):
    folder = tmp_path / "a b"
    link = plain(folder)
    link.unlink()
    link.symlink_to(tmp_path / "elsewhere")
    assert plain(folder).readlink() == folder


def test_a_place_that_is_not_ours_alone_is_not_used(tmp_path):
    shared, linked, good = tmp_path / "shared", tmp_path / "linked", tmp_path / "good"
    shared.mkdir(mode=0o700)
    shared.chmod(0o777)
    linked.symlink_to(shared)
    assert list(places_of_links([shared, linked, tmp_path / "a b", good])) == [good]
    assert good.stat().st_mode & 0o777 == 0o700
    assert os.getuid() == good.stat().st_uid
    assert next(places_of_links()).is_relative_to(tmp_path / "cache")


def test_a_place_that_cannot_be_written_is_passed_over(tmp_path, monkeypatch):
    folder = tmp_path / "a b"
    link = plain(folder)
    link.unlink()
    # A folder where the link should be.
    link.mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    other = plain(folder)
    assert other != link
    assert other.readlink() == folder
    assert list(link.parent.iterdir()) == [link]


def test_many_at_once_make_one_link(tmp_path):
    folder = tmp_path / "a b"
    with ThreadPoolExecutor(8) as pool:
        links = set(pool.map(lambda _: plain(folder), range(200)))
    assert len(links) == 1


def test_a_link_that_was_cleared_away_is_made_again_by_whoever_looks_after_the_server(tmp_path):
    link = plain(tmp_path / "a b")
    link.unlink()
    with pytest.raises(NotReady):
        Probe("127.0.0.1:1", (tmp_path / "a b",))()
    assert link.is_symlink()


def test_a_link_that_cannot_be_made_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="could be made: a folder of yours"):
        plain(tmp_path / ("a b" * 2000))
