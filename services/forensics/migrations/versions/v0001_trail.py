"""The trail: a table a kind of record, the trees above them, checkpoints, alarms, and who may do what.

A version that was released is not edited: what changes is another script.
"""

from services.forensics.migrations.running import begin, run, runs_timescale

revision = "0001"
down_revision = None


def upgrade() -> None:
    """What only TimescaleDB runs lies in `timescale/`, what only plain PostgreSQL runs in `plain/`."""
    begin()
    run("sql/0001_before.sql")
    run("sql/0001_trees.sql")
    timescale = runs_timescale()
    run("sql/0001_kinds.sql", partitioned="" if timescale else " PARTITION BY RANGE (event_time)")
    run("timescale/0001_hypertables.sql" if timescale else "plain/0001_partitions.sql")
    run("sql/0001_roles.sql")
