"""Signals, start, stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.ending import told_to_end
from connectors.kafka.identity import act_as
from connectors.priority import yield_to_others
from services.forensics.bootstrap import build
from services.forensics.recording import Progress
from services.forensics.settings import ForensicsSettings


def run(settings: ForensicsSettings, turn: Callable[[int, str], None], verify: Sequence[str]) -> Progress:
    """Put on record what is published until SIGTERM or SIGINT; returns how much was new.

    Args:
        settings: of the audit trail.
        turn: told in every turn how many records were stored, and what is waited for; "" for nothing.
        verify: the command by which all of it is verified once a day.

    Raises:
        ServiceUnavailable: the database does not answer at the start.
        ConfigurationError: a key or the schema is missing.
    """
    act_as("forensics")
    # What decides has a budget of milliseconds; a record may come a second later.
    yield_to_others(settings.nice)
    stopping = told_to_end()
    with build(settings, stopping, turn, verify) as recorder:
        return recorder.run()
