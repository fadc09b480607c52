"""What is put aside comes back byte for byte, or nothing comes back and the reason is told."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exporters.errors import Busy
from exporters.repository.repository import ModelRepository
from stack.backup import copying
from stack.backup.manifest import FORMAT, MANIFEST, read
from stack.backup.restoring import elsewhere, restore, verify
from stack.backup.taking import plan, take
from stack.cli.main import app
from stack.servers.settings import StackSettings, load
from stack.supervision.lifecycle import claim_home, delete_data
from stack.supervision.orphans import hold
from tests.paths import ROOT
from trading.errors import ConfigurationError

CLI = CliRunner()
MOUNT = subprocess.run(["unshare", "--mount", "--map-root-user", "true"], check=False).returncode == 0


@pytest.fixture
def settings(tmp_path):
    """A desk at rest: its home folder, and models elsewhere."""
    made = StackSettings(home=tmp_path / "home", model_repository=tmp_path / "elsewhere" / "models")
    claim_home(made)
    home, models = made.absolute_home, made.model_repository
    write(home / "kafka" / "1" / "market.ticks-0" / "0000.log", os.urandom(3_000_000))
    write(home / "kafka" / "1" / "meta.properties", b"cluster.id=x")
    write(home / "postgres" / "PG_VERSION", b"16")
    # An empty folder is a part of a database; what says who runs is not.
    (home / "postgres" / "pg_notify").mkdir(mode=0o700)
    write(home / "postgres" / "postmaster.pid", b"1")
    write(home / "redis" / "dump.rdb", b"")
    write(home / "secrets" / "redis", b"secret", 0o600)
    (home / "secrets").chmod(0o700)
    write(home / "logs" / "kafka-1.log", b"told")
    write(models / "m" / "1" / "model.onnx", b"weights")
    write(models.parent / ".models.ultrathink" / "journal.jsonl", b"{}\n")
    write(made.torchserve_repository / "t" / "1" / "model.pt", b"other weights")
    write(home / ".torchserve_repository.ultrathink" / "journal.jsonl", b"{}\n{}\n")
    return made


def write(path, content, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def tree(folder):
    return {
        str(p.relative_to(folder)): (stat.S_IMODE(p.stat().st_mode), p.read_bytes() if p.is_file() else None)
        for p in folder.rglob("*")
    }


def lasting(found):
    """Without what says who runs, and who holds a model."""
    return {name: what for name, what in found.items() if name.split("/")[0] != "run" and "/locks" not in name}


def test_what_is_put_aside_comes_back_byte_for_byte(settings, tmp_path):
    before, models = tree(settings.absolute_home), tree(settings.model_repository)
    seen = []
    made = take(settings, tmp_path / "backups" / "one", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (made.bytes, made.bytes)
    assert lasting(tree(settings.absolute_home)) == lasting(before)
    assert stat.S_IMODE((tmp_path / "backups" / "one").stat().st_mode) == 0o700
    assert {p.name for p in (tmp_path / "backups").iterdir()} == {"one"}
    shutil.rmtree(settings.absolute_home)
    shutil.rmtree(settings.model_repository.parent)
    found = restore(tmp_path / "backups" / "one", tmp_path / "new")
    after = tree(tmp_path / "new")
    for part in ("kafka", "postgres", "redis", "secrets"):
        wanted = {k: v for k, v in before.items() if k.split("/")[0] == part and "postmaster.pid" not in k}
        assert {k: v for k, v in after.items() if k.split("/")[0] == part} == wanted
    assert {
        k.removeprefix("model_repository/"): v for k, v in after.items() if k.startswith("model_repository/")
    } == models
    assert (tmp_path / "new" / ".model_repository.ultrathink" / "journal.jsonl").read_bytes() == b"{}\n"
    assert after["torchserve_repository/t/1/model.pt"][1] == b"other weights"
    assert after[".torchserve_repository.ultrathink/journal.jsonl"][1] == b"{}\n{}\n"
    assert found.torchserve_repository == tmp_path / "new" / "torchserve_repository"
    assert "logs" not in after
    assert load(tmp_path / "new") == found
    assert (found.home, found.model_repository) == (tmp_path / "new", tmp_path / "new" / "model_repository")
    assert found.ports == settings.ports
    # It is a stack's home: a purge takes away what was brought back, and nothing is left of it.
    assert delete_data(tmp_path / "new") == []
    assert not (tmp_path / "new").exists()


def test_a_desk_that_runs_is_not_copied(settings, tmp_path):
    held = hold(settings.absolute_home)
    with held, pytest.raises(ConfigurationError, match="runs, and its files change"):
        take(settings, tmp_path / "one")
    assert not (tmp_path / "one").exists()
    take(settings, tmp_path / "one")


@pytest.mark.parametrize("where", ["home", "home/backups/x", "full", "file", "dangling"])
def test_a_place_that_would_be_lost_or_holds_something_is_refused(settings, tmp_path, where):
    write(tmp_path / "full" / "mine", b"x")
    write(tmp_path / "file", b"x")
    (tmp_path / "dangling").symlink_to(tmp_path / "full")
    with pytest.raises(ConfigurationError, match="name a folder"):
        take(settings, tmp_path / where)
    assert (tmp_path / "full" / "mine").read_bytes() == b"x"


def test_a_link_is_refused_by_name_and_nothing_is_left(settings, tmp_path):
    (settings.absolute_home / "redis" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ConfigurationError, match="redis/link is a link"):
        take(settings, tmp_path / "backups" / "one")
    assert not (tmp_path / "backups").exists()


def test_no_room_is_told_before_anything_is_written(settings, tmp_path):
    tight = settings.model_copy(update={"least_disk_mb": 2**40})
    with pytest.raises(ConfigurationError, match="another disk"):
        take(tight, tmp_path / "backups" / "one")
    assert not (tmp_path / "backups").exists()


def test_a_disk_that_fails_half_way_leaves_nothing(settings, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(copying.os, "sync", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        take(settings, tmp_path / "backups" / "one")
    assert list((tmp_path / "backups").iterdir()) == []
    monkeypatch.undo()
    take(settings, tmp_path / "backups" / "one")
    monkeypatch.setattr(copying.os, "sync", full)
    with pytest.raises(ConfigurationError, match="nothing is left of it"):
        restore(tmp_path / "backups" / "one", tmp_path / "new")
    assert {p.name for p in tmp_path.iterdir()} == {"home", "elsewhere", "backups"}


def test_what_a_killed_backup_left_is_taken_away_and_what_others_left_is_not(settings, tmp_path):
    unfinished = tmp_path / ".one.unfinished"
    write(unfinished / copying.MARK, b"")
    write(unfinished / "kafka" / "half", b"x")
    take(settings, tmp_path / "one")
    assert not unfinished.exists()
    write(tmp_path / ".two.unfinished" / "mine", b"x")
    with pytest.raises(ConfigurationError, match="is not ours"):
        take(settings, tmp_path / "two")
    assert (tmp_path / ".two.unfinished" / "mine").exists()


DAMAGE = {
    "a changed byte": lambda f: write(f / "kafka/1/meta.properties", b"cluster.id=y"),
    "a file cut short": lambda f: os.truncate(f / "kafka/1/market.ticks-0/0000.log", 1000),
    "a missing file": lambda f: (f / "secrets/redis").unlink(),
    "a missing folder": lambda f: (f / "postgres/pg_notify").rmdir(),
    "one more": lambda f: write(f / "kafka/1/more", b""),
    "one more folder": lambda f: (f / "kafka/2").mkdir(),
    "a link": lambda f: ((f / "redis/dump.rdb").unlink(), (f / "redis/dump.rdb").symlink_to("/etc/passwd")),
    "a folder for a file": lambda f: ((f / "redis/dump.rdb").unlink(), (f / "redis/dump.rdb").mkdir()),
    "no manifest": lambda f: (f / MANIFEST).unlink(),
    "half a manifest": lambda f: os.truncate(f / MANIFEST, 100),
    "another format": lambda f: edit(f, format=FORMAT + 1),
    "a name that leads out": lambda f: edit(f, folders={"../../out": 0o755}),
    "a field that nobody knows": lambda f: edit(f, more=1),
}


def edit(folder, **changes):
    told = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps(told | changes))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_backup_that_is_not_what_it_was_is_refused_and_nothing_is_restored(settings, tmp_path, damage):
    backup = tmp_path / "one"
    take(settings, backup)
    assert verify(backup) == read(backup)
    DAMAGE[damage](backup)
    for refused in (lambda: verify(backup), lambda: restore(backup, tmp_path / "new")):
        with pytest.raises(ConfigurationError, match="use another backup|is no backup|use the version|is a link"):
            refused()
    assert {p.name for p in tmp_path.iterdir()} == {"home", "elsewhere", "one"}


def test_a_desk_is_restored_where_there_is_none(settings, tmp_path):
    take(settings, tmp_path / "one")
    with pytest.raises(ConfigurationError, match="is not empty"):
        restore(tmp_path / "one", settings.absolute_home)
    (tmp_path / "new").mkdir()
    restore(tmp_path / "one", tmp_path / "new")
    assert (tmp_path / "new" / "kafka" / "1" / "meta.properties").exists()


def test_a_file_of_the_desk_that_is_not_here_is_named(settings, tmp_path):
    there = tmp_path / "limits.yaml"
    there.touch()
    names = {"ULTRATHINK_GATEWAY_LIMITS_FILE": "/gone/limits.yaml", "ULTRATHINK_GATEWAY_BUDGET_MS": "20"}
    found = settings.model_copy(update={"desk": names})
    assert elsewhere(found, tmp_path / "old") == [
        "ULTRATHINK_GATEWAY_LIMITS_FILE is /gone/limits.yaml, which is not there"
    ]
    found = settings.model_copy(update={"desk": names | {"ULTRATHINK_GATEWAY_LIMITS_FILE": str(there)}})
    assert elsewhere(found, tmp_path / "old") == []
    (told,) = elsewhere(found, tmp_path)
    assert "of the desk that was backed up" in told
    killed = settings.model_copy(update={"desk": {"ULTRATHINK_GATEWAY_KILL_FILE": "/gone/kill"}})
    assert elsewhere(killed, tmp_path / "old") == []


def test_a_backup_without_its_models_or_of_a_link_to_elsewhere_is_none(settings, tmp_path):
    archive = settings.absolute_home / "archive"
    archive.rmdir()
    archive.symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="archive is a link"):
        take(settings, tmp_path / "one")
    archive.unlink()
    archive.mkdir()
    shutil.rmtree(settings.model_repository)
    with pytest.raises(ConfigurationError, match="models is missing"):
        take(settings, tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_a_place_in_what_is_backed_up_is_refused(settings):
    with pytest.raises(ConfigurationError, match="which is backed up"):
        take(settings, settings.model_repository / "x")


def test_a_name_that_no_manifest_can_hold_is_told(settings, tmp_path):
    Path(os.fsdecode(os.fsencode(settings.absolute_home / "redis") + b"/\xff")).touch()
    with pytest.raises(ConfigurationError, match="no text in UTF-8"):
        take(settings, tmp_path / "one")


def test_while_a_model_is_exported_there_is_no_backup(settings, tmp_path):
    repository = ModelRepository(settings.model_repository)
    with repository.lock("m"), pytest.raises(Busy):
        take(settings, tmp_path / "one")
    take(settings, tmp_path / "one")


def test_what_a_desk_that_runs_takes_away_while_it_is_looked_at_is_passed_over(settings, tmp_path, monkeypatch):
    lstat, gone = Path.lstat, settings.absolute_home / "redis" / "dump.rdb"

    def vanishing(path):
        if path == gone:
            raise FileNotFoundError(path)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", vanishing)
    assert "redis/dump.rdb" not in {name for name, _, _ in plan(settings, tmp_path / "one").found}
    assert copying.present(tmp_path / "gone") == []


def test_two_at_once_leave_each_others_work_alone(settings, tmp_path):
    staging = tmp_path / ".one.unfinished"
    with copying.begun(staging):
        (staging / "half").touch()
        with pytest.raises(ConfigurationError, match="somebody else is at work"):
            take(settings, tmp_path / "one")
        assert (staging / "half").exists()
    assert not staging.exists()
    take(settings, tmp_path / "one")


def test_one_that_was_whole_when_its_maker_was_killed_is_one(settings, tmp_path):
    take(settings, tmp_path / "one")
    (tmp_path / "one" / copying.MARK).touch()
    verify(tmp_path / "one")
    restore(tmp_path / "one", tmp_path / "new")
    assert not (tmp_path / "new" / copying.MARK).exists()


def test_the_commands_say_what_they_did(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(settings.absolute_home))
    done = CLI.invoke(app, ["stack", "backup", str(tmp_path / "one"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["parts"]["kafka"] == 3_000_012
    assert CLI.invoke(app, ["stack", "restore", str(tmp_path / "one"), "--dry-run"]).exit_code == 0
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path / "new"))
    done = CLI.invoke(app, ["stack", "restore", str(tmp_path / "one")])
    assert done.exit_code == 0, done.output
    assert "or both trade" in done.stdout
    assert Path(tmp_path / "new" / "stack.json").is_file()
    for words in (["backup", str(tmp_path / "one")], ["restore", str(tmp_path / "nothing")]):
        refused = CLI.invoke(app, ["stack", *words])
        assert refused.exit_code != 0
        assert isinstance(refused.exception, (SystemExit, ConfigurationError))
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path / "never"))
    assert "nothing to back up" in str(CLI.invoke(app, ["stack", "backup", str(tmp_path / "x")]).exception)


@pytest.mark.skipif(not MOUNT, reason="no mount namespaces here")
def test_a_disk_that_is_mounted_just_there_is_refused_before_anything_is_copied(settings, tmp_path):
    take(settings, tmp_path / "one")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        "import sys; from pathlib import Path\n"
        "from stack.backup.restoring import restore\n"
        "from trading.errors import ConfigurationError\n"
        f"try: restore(Path({str(tmp_path / 'one')!r}), Path({str(disk)!r}))\n"
        "except ConfigurationError as error: print(error)"
    )
    command = f"mount -t tmpfs none {disk} && exec {sys.executable} -c '{script.replace(chr(39), chr(34))}'"
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", command], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "is where a disk is mounted" in done.stdout, done.stderr
    assert not (tmp_path / ".disk.unfinished").exists()


def test_a_clean_up_that_was_interrupted_leaves_what_can_be_told_for_ours(settings, tmp_path, monkeypatch):
    staging = tmp_path / ".one.unfinished"
    staging.mkdir()
    for name in (copying.MARK, "a", "z"):
        (staging / name).touch()
    locked = staging / "sub"
    locked.mkdir()
    (locked / "file").touch()
    locked.chmod(0o500)
    unlink, gone = Path.unlink, []

    def interrupted(path, **given):
        if len(gone) == 1:
            raise KeyboardInterrupt
        gone.append(path)
        unlink(path, **given)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        copying.clear(staging)
    monkeypatch.undo()
    assert (staging / copying.MARK).exists()
    take(settings, tmp_path / "one")
    assert {p.name for p in tmp_path.iterdir()} == {"home", "elsewhere", "one"}


def test_one_that_was_killed_before_it_had_marked_its_folder_is_in_nobodys_way(settings, tmp_path):
    (tmp_path / ".one.unfinished").mkdir()
    made = take(settings, tmp_path / "one")
    assert verify(tmp_path / "one") == made
    assert not (tmp_path / ".one.unfinished").exists()


def test_a_newer_format_is_told_by_its_number_whatever_else_it_holds(settings, tmp_path):
    take(settings, tmp_path / "one")
    edit(tmp_path / "one", format=FORMAT + 1, version="9.1", files=[], more={"x": 1})
    with pytest.raises(ConfigurationError, match=rf"of format {FORMAT + 1}, .* 9\.1"):
        verify(tmp_path / "one")
