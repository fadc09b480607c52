"""A record that was signed long ago and changed since is found by the day's verification, and by nothing else."""

from __future__ import annotations

import os

import psycopg
import pytest

from services.forensics.daily_verification import DailyVerification, by_process, last_verified
from services.forensics.ports import Observer
from stack.processes.own import PROGRAM
from tests.databases import fresh_database, migrated, running_postgres
from tests.trails import KEY, build
from trading.keys import to_pem


@pytest.fixture
def trail(tmp_path):
    """A signed trail: its database, and what looks at it each day."""
    home = tmp_path / "postgres"
    home.mkdir()
    home.chmod(0o755)
    with running_postgres(home) as server, fresh_database(server) as settings:
        migrated(settings)
        build(settings, tmp_path / "trail", {"decisions": 2_000, "orders": 500, "fills": 10, "commands": 10})
        (tmp_path / "key.pub").write_text(to_pem(KEY.public_key()))
        environment = {
            "ULTRATHINK_FORENSICS_READER_URL": settings.postgres_url("forensics", "ultrathink"),
            "ULTRATHINK_FORENSICS_CHECKPOINTS": os.fspath(tmp_path / "trail"),
            "ULTRATHINK_FORENSICS_SIGNING_KEY": os.fspath(tmp_path / "key"),
        }
        command = [os.fspath(PROGRAM), "forensics", "verify", "--json"]
        yield settings, DailyVerification(by_process(command, environment), tmp_path / "trail", Observer(), 0)


def test_what_was_changed_long_after_it_was_signed_is_found(trail, tmp_path):
    settings, daily = trail
    daily.once()
    assert daily.alarms() == []
    assert (last_verified(tmp_path / "trail").records, last_verified(tmp_path / "trail").findings) == (2_520, 0)
    with psycopg.connect(settings.postgres_url("ultrathink")) as owner:
        owner.execute("UPDATE trail.decisions SET value = %s WHERE leaf_index = 700", (b"{}",))
    daily.once()
    alarms = daily.alarms()
    assert {alarm.kind for alarm in alarms} == {"not_as_signed"}
    assert any("record 700" in alarm.detail for alarm in alarms)
    assert last_verified(tmp_path / "trail").findings == len(alarms)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("UPDATE trail.decisions SET timestamp_type = 300 WHERE leaf_index = 7", id="no such number"),
        pytest.param(
            "UPDATE trail.batches SET first_event_time = 'infinity' WHERE to_size < 300", id="no such time"
        ),
        pytest.param("UPDATE trail.checkpoints SET signed_at = 'infinity' WHERE number = 1", id="no such moment"),
    ],
)
def test_a_value_that_nobody_can_read_hides_nothing(trail, change):
    settings, daily = trail
    with psycopg.connect(settings.postgres_url("ultrathink")) as owner:
        assert owner.execute(change).rowcount
    daily.once()
    assert daily.alarms()


def test_a_database_that_is_away_leaves_nothing_said(trail, tmp_path):
    settings, daily = trail
    with psycopg.connect(settings.postgres_url("ultrathink")) as owner:
        owner.execute("REVOKE SELECT ON ALL TABLES IN SCHEMA trail FROM forensics, reader")
    daily.once()
    assert daily.alarms() == []
    assert last_verified(tmp_path / "trail").began_ns == 0
