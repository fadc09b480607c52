"""Decisions by symbol."""

from services.forensics.migrations.running import run

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """The same on both; partitions that are there get it too."""
    run("sql/0002_by_symbol.sql")
