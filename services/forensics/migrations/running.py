"""What the scripts of all versions do alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op
from alembic.util import CommandError
from sqlalchemy import text

FOLDER = Path(__file__).parent
#: Who writes, and who reads.
ROLES = ("forensics", "reader")


def begin() -> None:
    """Look for the roles that are given rights; the owner of a database may not make them. Raises CommandError."""
    known = {row[0] for row in op.get_bind().execute(text("SELECT rolname FROM pg_roles"))}
    missing = [role for role in ROLES if role not in known]
    if missing:
        made = "; ".join(f"CREATE ROLE {role} LOGIN PASSWORD '...'" for role in missing)
        raise CommandError(
            f"PostgreSQL has no role {' and no role '.join(missing)}: run as its administrator {made} (the "
            "embedded stack and deploy/docker/init-databases.sh do)"
        )


def runs_timescale() -> bool:
    """Whether the extension is installed in this database."""
    found = op.get_bind().execute(text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"))
    return found.first() is not None


def run(file: str, **places: str) -> None:
    """Run a file's statements; `{name}` in it is replaced where a place of that name is given."""
    statements = (FOLDER / file).read_text()
    for name, what in places.items():
        statements = statements.replace("{" + name + "}", what)
    # As they are: a percent sign or a colon is SQL's own here.
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(statements)
