"""Kafka's Java starts from what was recorded, and without it all the same."""

from __future__ import annotations

import subprocess

import pytest

from stack.servers import kafka, record_kafka
from stack.servers.record_kafka import LEAST_JAVA, java_version


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
def test_a_recording_is_whole_or_absent(tmp_path):
    made = record_kafka.record(tmp_path / "made" / "kafka.aot")
    done = kafka_says(f"-XX:AOTCache={made}", "-XX:AOTMode=on", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in made.parent.iterdir()] == ["kafka.aot"]
