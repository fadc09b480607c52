"""Kafka's Java starts from what was recorded, and without it all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from stack.servers import kafka, record_kafka
from stack.servers.record_kafka import LEAST_JAVA, UNFINISHED, java_version
from tests.waiting import eventually


def kafka_says(*options, folder):
    """What it answers when asked for its version."""
    (folder / "log4j2.properties").write_text(kafka.LOG4J)
    command = kafka.java_command("kafka.Kafka", folder, "--version", options=options)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(java_version() < LEAST_JAVA, reason="this Java keeps no methods' profiles")
def test_set_up_has_recorded_a_cache_that_this_java_takes(tmp_path):
    assert kafka.recorded() == (f"-XX:AOTCache={kafka.aot_cache()}",)
    done = kafka_says(*kafka.recorded(), "-XX:AOTMode=on", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert kafka.version() in done.stdout
    # The option does look: one that is cut short is refused by it.
    cut = tmp_path / "cut.aot"
    cut.write_bytes(kafka.aot_cache().read_bytes()[:1_000_000])
    assert kafka_says(f"-XX:AOTCache={cut}", "-XX:AOTMode=on", folder=tmp_path).returncode != 0


@pytest.mark.parametrize("content", [b"", b"rubbish" * 1000])
def test_a_broker_starts_without_a_cache_that_is_spoilt(content, tmp_path):
    spoilt = tmp_path / "spoilt.aot"
    spoilt.write_bytes(content)
    done = kafka_says(f"-XX:AOTCache={spoilt}", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert kafka.version() in done.stdout


@pytest.mark.slow
def test_a_recording_is_whole_or_absent_and_touches_no_other_stack(tmp_path, monkeypatch):
    other = tmp_path / "another stack's log"
    monkeypatch.setenv("ULTRATHINK_BROKERS", "3")
    monkeypatch.setenv("ULTRATHINK_KAFKA_SECURITY", "sasl")
    monkeypatch.setenv("ULTRATHINK_KAFKA_SECRETS", os.fspath(tmp_path / "nowhere"))
    monkeypatch.setenv("ULTRATHINK_KAFKA_EXTRA", json.dumps({"log.dirs": os.fspath(other)}))
    old, young = tmp_path / "made" / f"{UNFINISHED}old", tmp_path / "made" / f"{UNFINISHED}young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    made = record_kafka.record(tmp_path / "made" / "kafka.aot")
    done = kafka_says(f"-XX:AOTCache={made}", "-XX:AOTMode=on", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in made.parent.iterdir()) == [young.name, "kafka.aot"]
    assert not other.exists()


def test_a_recording_that_is_ended_ends_its_broker_and_leaves_nothing(tmp_path):
    code = f"from pathlib import Path; from stack.servers import record_kafka as r; r.main(Path({str(tmp_path / 'a')!r}) / 'k.aot')"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: list((tmp_path / "a").glob(f"{UNFINISHED}*/kafka/1/data/market.ticks-0")))
        process.send_signal(signal.SIGTERM)
        # It says nothing, and nobody is left who holds its output.
        said, _ = process.communicate(timeout=30)
        assert (said, process.returncode) == (b"", 1)
        assert list((tmp_path / "a").iterdir()) == []
    finally:
        process.kill()
        process.communicate()
