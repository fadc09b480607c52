"""Which experiment a decision was part of, whose its unit was, and why it fell to the champion."""

from services.forensics.migrations.running import run

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Nothing stands in the new columns of what is on record: no version before this one wrote any of it."""
    run("sql/0005_arms.sql")
