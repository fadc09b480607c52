"""Which experiment a decision was part of, whose its unit was, and why it fell to the champion."""

from services.forensics.migrations.running import run

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Nothing stands in the new columns of what is on record: no experiment had been."""
    run("sql/0005_arms.sql")
