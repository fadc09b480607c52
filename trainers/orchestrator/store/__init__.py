"""What the orchestrator knows, in PostgreSQL: each change is one transaction, made with the fence that it knows."""

from __future__ import annotations

from trainers.orchestrator.store.database import Database
from trainers.orchestrator.store.history import HistoryStore
from trainers.orchestrator.store.runs import RunStore
from trainers.orchestrator.store.schedules import ScheduleStore


class Store:
    """All of it, on one database.

    Attributes:
        database: whose clock is everybody's.
        runs, schedules, history: what is asked of each.
    """

    def __init__(self, url: str) -> None:
        """Nothing is asked yet. Raises ConfigurationError for a wrong address."""
        self.database = Database(url)
        self.runs, self.schedules = RunStore(self.database), ScheduleStore(self.database)
        self.history = HistoryStore(self.database)

    def close(self) -> None:
        """Let go of the connections."""
        self.database.close()
