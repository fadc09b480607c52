"""Versions of the orchestrator's tables, and the queue's, whose maker has his own."""

from __future__ import annotations

from pathlib import Path

from connectors.job_queue import lay_out
from connectors.migrations import migrate
from connectors.postgres import connect_url, sql, translating

FOLDER = Path(__file__).parent
SCHEMA = "orchestrator"
#: Where trials of searches keep what they have found; its tables are Optuna's own.
STUDIES = "optuna"


def prepare(url: str) -> tuple[str, str]:
    """Bring a database to this version's tables; the versions before and after, "" for none.

    Args:
        url: of the orchestrator's own database, as its owner.

    Raises:
        ServiceUnavailable: PostgreSQL does not answer, or refuses.
        ConfigurationError: it is of a version that is not known here.
    """
    told = migrate(url, FOLDER, SCHEMA)
    lay_out(url)
    with translating("the schema of studies cannot be made"), connect_url(url) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(STUDIES)))
    return told
