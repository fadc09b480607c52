"""What can go wrong with a model on its way to the server."""

from __future__ import annotations

from gateway.domain.errors import ConfigurationError


class ExportError(ConfigurationError):
    """A model cannot be exported as it is; the repository is unchanged."""


class ParityError(ExportError):
    """An exported or served model answers other than its source."""
