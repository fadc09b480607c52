"""A path that a shell and a Java program can be given."""

from __future__ import annotations

import os

import pytest

from stack.servers import plain_paths
from stack.servers.plain_paths import PLAIN, place_of_links, plain
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
    assert place_of_links([shared, linked, tmp_path / "a b", good]) == good
    assert good.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigurationError, match="no folder for links was found"):
        place_of_links([shared, linked, tmp_path / "a b"])
    assert os.getuid() == good.stat().st_uid
    assert plain_paths.place_of_links().is_relative_to(tmp_path / "cache")
