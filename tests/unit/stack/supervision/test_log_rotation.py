"""Logs are put aside by size and age, whoever writes them on."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time

import pytest

from stack.supervision.log_rotation import FRESH_S, KEEP, LOOK_S, LogRotation, rotate

DAY_S = 86_400.0


def test_a_log_that_is_too_large_is_put_aside_and_written_on(tmp_path):
    path = tmp_path / "redis.log"
    rotation = LogRotation(tmp_path, most_mb=1, most_days=14)
    with path.open("ab") as log:
        log.write(b"a" * 2**20)
        log.flush()
        rotation.look(0.0)
        assert not path.with_name("redis.log.1").exists()
        log.write(b"bcd\n")
        log.flush()
        rotation.look(LOOK_S + 1)
        assert path.with_name("redis.log.1").stat().st_size == 2**20 + 4
        log.write(b"more\n")
        log.flush()
    assert path.read_bytes() == b"more\n"


def test_a_log_is_begun_anew_each_day_unless_it_is_empty(tmp_path):
    (tmp_path / "one.log").write_text("line\n")
    (tmp_path / "none.log").touch()
    rotation = LogRotation(tmp_path, most_mb=1, most_days=14)
    rotation.look(0.0)
    rotation.look(FRESH_S + 1)
    assert (tmp_path / "one.log").read_text() == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["none.log", "one.log", "one.log.1"]


def test_only_so_many_are_kept_the_newest_first(tmp_path):
    path = tmp_path / "one.log"
    for k in range(KEEP + 3):
        path.write_text(f"{k}\n")
        rotate(path)
    kept = [path.with_name(f"one.log.{k}").read_text().strip() for k in range(1, KEEP + 1)]
    assert kept == [str(k) for k in reversed(range(3, KEEP + 3))]
    assert not path.with_name(f"one.log.{KEEP + 1}").exists()


def test_what_was_put_aside_long_ago_is_deleted_and_what_is_no_log_is_not(tmp_path):
    for name in ("one.log.1", "one.log.2", "notes.txt", "one.log.backup"):
        (tmp_path / name).write_text("x")
    past = time.time() - 15 * DAY_S
    for name in ("one.log.2", "notes.txt", "one.log.backup"):
        os.utime(tmp_path / name, (past, past))
    LogRotation(tmp_path, most_mb=1, most_days=14).look(0.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "one.log.1", "one.log.backup"]


def test_nothing_is_lost_while_somebody_writes(tmp_path):
    path = tmp_path / "busy.log"
    stop = threading.Event()
    written = 0

    def write():
        nonlocal written
        with path.open("ab", buffering=0) as log:
            while not stop.is_set():
                log.write(f"{written:09d}\n".encode())
                written += 1
                time.sleep(0.0005)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(KEEP):
        time.sleep(0.05)
        rotate(path)
    stop.set()
    thread.join()
    files = [path.with_name(f"busy.log.{k}") for k in range(KEEP, 0, -1)] + [path]
    lines = [line for file in files for line in file.read_text().split()]
    # A line may fall between the last copy and the emptying, though none did in a million: at most one a rotation.
    assert written - len(lines) <= KEEP
    assert lines == sorted(set(lines))


def test_a_log_that_cannot_be_copied_stays_and_is_told_of(tmp_path, monkeypatch):
    path = tmp_path / "one.log"
    path.write_text("kept\n" * 300_000)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "truncate", full)
    rotation = LogRotation(tmp_path, most_mb=1, most_days=14)
    rotation.look(0.0)
    assert "No space left on device" in rotation.problem
    assert path.read_text().startswith("kept")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.log"]


def test_a_folder_that_is_not_there_is_no_problem(tmp_path):
    rotation = LogRotation(tmp_path / "gone", most_mb=1, most_days=14)
    rotation.look(0.0)
    assert rotation.problem == ""


def test_what_cannot_be_written_whole_is_not_taken_from_the_log(tmp_path):
    """A disk that fills while the copy is made: the last bytes are refused when it is closed."""
    path = tmp_path / "one.log"
    path.write_text("kept\n" * 1000)
    path.with_name("one.log.1").write_text("older\n")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            rotate(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_text() == "kept\n" * 1000
    assert path.with_name("one.log.1").read_text() == "older\n"
    assert not path.with_name("one.log.2").exists()
