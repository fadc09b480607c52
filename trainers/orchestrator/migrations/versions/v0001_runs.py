"""Runs, attempts at their steps, what happened, schedules with their slots, and what fired."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """As the file has it: a percent sign or a colon is SQL's own here."""
    statements = (Path(__file__).parents[1] / "sql" / "0001_runs.sql").read_text()
    op.get_bind().connection.driver_connection.execute(statements)  # type: ignore[union-attr]
