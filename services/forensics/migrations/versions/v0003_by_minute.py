"""Decisions, denials by rule, latency and exposure, a minute at a time."""

from services.forensics.migrations.running import run, runs_timescale

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Continuous aggregates where TimescaleDB runs, views of the same names where it does not."""
    run("timescale/0003_by_minute.sql" if runs_timescale() else "plain/0003_by_minute.sql")
    run("sql/0003_by_minute.sql")
