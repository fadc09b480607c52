"""Why a run proves nothing."""

from __future__ import annotations

from trading.errors import ConfigurationError


class InvalidRun(ConfigurationError):
    """Nothing was measured, or what was measured says nothing: exit code 2, never a verdict."""


class InvalidInput(InvalidRun):
    """What was asked for cannot be run, whatever the servers do."""
