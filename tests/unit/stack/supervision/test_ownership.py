"""A home folder may be anybody's: only what a record says that we made is deleted."""

from __future__ import annotations

import json

import pytest

from stack.servers.settings import ServerPorts, StackSettings
from stack.supervision.lifecycle import delete_data, up
from stack.supervision.ownership import RECORD, claim, made
from trading.errors import ConfigurationError


def started(home):
    (home / "stack.json").write_text("{}")


def test_what_was_made_is_deleted_and_what_lies_beside_it_is_left(tmp_path):
    for name in ("loadtest", "model_repository"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text("mine")
    started(tmp_path)
    claim(tmp_path, ["kafka", "run"], alone=True)
    claim(tmp_path, ["loadtest", "model_repository", "report"], alone=False)
    (tmp_path / "kafka" / "1").mkdir()
    assert set(made(tmp_path)) == {"kafka", "run", "report"}
    assert delete_data(tmp_path) == ["loadtest", "model_repository"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["loadtest", "mine.py", "mine.py", "model_repository"]


def test_a_home_that_was_only_ours_goes_whole(tmp_path):
    home = tmp_path / "home"
    claim(home, ["kafka", "secrets"], alone=True)
    started(home)
    (home / ".demo").touch()
    assert delete_data(home) == []
    assert not home.exists()


@pytest.mark.parametrize("theirs", ["secrets", "run"])
def test_a_folder_of_somebody_else_is_refused_before_anything_is_written_into_it(tmp_path, theirs):
    (tmp_path / theirs).mkdir()
    (tmp_path / theirs / "mine").write_text("mine")
    with pytest.raises(ConfigurationError, match=f"{theirs} was not made by a stack"):
        claim(tmp_path, ["kafka", "run", "secrets"], alone=True)
    assert made(tmp_path) == {}
    assert [p.name for p in (tmp_path / theirs).iterdir()] == ["mine"]


def test_another_folder_of_the_same_name_is_not_ours(tmp_path):
    started(tmp_path)
    claim(tmp_path, ["logs"], alone=True)
    (tmp_path / "logs").rename(tmp_path / "old")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine").write_text("mine")
    assert made(tmp_path) == {}
    assert delete_data(tmp_path) == ["logs", "old"]


def test_a_link_is_never_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    home = tmp_path / "home"
    claim(home, ["kafka"], alone=True)
    started(home)
    (home / "kafka").rmdir()
    (home / "kafka").symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="was not made by a stack"):
        claim(home, ["kafka"], alone=True)
    assert delete_data(home) == ["kafka"]
    assert (elsewhere / "mine").exists()


@pytest.mark.parametrize("name", ["../victim", "/etc", ".", "..", "a/b"])
def test_a_record_that_names_a_path_deletes_nothing(tmp_path, name):
    victim, home = tmp_path / "victim", tmp_path / "home"
    victim.mkdir()
    home.mkdir()
    (home / "a" / "b").mkdir(parents=True)
    started(home)
    found = (home / name).resolve().stat()
    (home / RECORD).write_text(json.dumps({"folders": {name: [found.st_dev, found.st_ino]}}))
    assert made(home) == {}
    delete_data(home)
    assert victim.is_dir()
    assert (home / "a" / "b").is_dir()


@pytest.mark.parametrize("content", ["", "rubbish", "[]", '{"folders":{"kafka":"x"}}'])
def test_a_record_that_cannot_be_read_deletes_nothing(tmp_path, content):
    claim(tmp_path, ["kafka"], alone=True)
    (tmp_path / RECORD).write_text(content)
    started(tmp_path)
    assert delete_data(tmp_path) == ["kafka"]


def old_home(home):
    """As a stack left it before there was a record."""
    for name, files in {
        "kafka": ["1/meta.properties"], "redis": ["dump.rdb", "server.conf"], "postgres": ["PG_VERSION"], "logs": ["supervisor.log"],
        "run": ["status.json"], "secrets": ["redis", "postgres-admin"], "loadtest": ["a/result.json"],
    }.items():  # fmt: skip
        for file in files:
            (home / name / file).parent.mkdir(parents=True, exist_ok=True)
            (home / name / file).write_text("x")
    started(home)


def test_a_home_of_before_there_was_a_record_is_purged_of_what_can_only_be_a_stacks(tmp_path):
    old_home(tmp_path)
    assert delete_data(tmp_path) == ["loadtest"]
    # And the next start there is not refused.
    claim(tmp_path, ["kafka", "run", "secrets", "logs"], alone=True)


def test_in_an_old_home_peoples_own_folders_of_these_names_are_left_and_it_stays_a_stacks(tmp_path):
    old_home(tmp_path)
    (tmp_path / "secrets" / "my-bank").write_text("mine")
    (tmp_path / "run" / "run.sh").write_text("mine")
    assert delete_data(tmp_path) == ["loadtest", "run", "secrets"]
    assert (tmp_path / "stack.json").is_file()
    assert (tmp_path / "secrets" / "my-bank").is_file()


def test_a_second_purge_does_not_take_what_the_first_one_left(tmp_path):
    old_home(tmp_path)
    (tmp_path / "secrets" / "my-bank").write_text("mine")
    assert delete_data(tmp_path) == ["loadtest", "secrets"]
    (tmp_path / "secrets" / "my-bank").unlink()
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "server.conf").write_text("mine")
    assert delete_data(tmp_path) == ["loadtest", "redis", "secrets"]


def test_a_folder_where_no_stack_ever_ran_is_not_adopted_by_what_lies_in_it(tmp_path):
    for name, file in (("redis", "server.conf"), ("postgres", "PG_VERSION"), ("mlflow", "artifacts")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("mine")
    settings = StackSettings(
        profile="servers", home=tmp_path, ports=ServerPorts.automatic(), model_repository=tmp_path / "models"
    )
    with pytest.raises(ConfigurationError, match="was not made by a stack"):
        up(settings, lambda _: None)
    assert made(tmp_path) == {}
    assert delete_data(tmp_path) == []
    assert (tmp_path / "redis" / "server.conf").is_file()
