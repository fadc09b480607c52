"""What gateways say of themselves at their start, and what stays of records that were old enough to go."""

from services.forensics.migrations.running import run, runs_timescale

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """The table first: on TimescaleDB it becomes a hypertable."""
    timescale = runs_timescale()
    run("sql/0004_starts.sql", partitioned="" if timescale else " PARTITION BY RANGE (event_time)")
    run("timescale/0004_parts.sql" if timescale else "plain/0004_parts.sql")
    run("sql/0004_retired.sql")
