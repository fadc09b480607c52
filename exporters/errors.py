"""What can go wrong with a model on its way to the server."""

from __future__ import annotations

from trading.errors import ConfigurationError


class ExportError(ConfigurationError):
    """A model cannot be exported or released as it is; what was served before is served still."""


class UnsafeArtefact(ExportError):
    """Opening the artefact could run code of whoever wrote it."""


class ParityError(ExportError):
    """An exported or served model answers other than its source."""


class Busy(ExportError):
    """Another exporter holds the model."""


def brief(error: object, most: int = 300) -> str:
    """The beginning of what a library says, in one line."""
    return " ".join(str(error).split())[:most]
