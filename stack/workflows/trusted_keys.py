"""Whose checkpoints are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.forensics.own_keys import own_keys
from services.forensics.settings import ForensicsSettings
from trading.errors import ConfigurationError
from trading.keys import Keys, public_keys, public_path


def trusted(settings: ForensicsSettings | None, given: Sequence[Path] | None) -> Keys:
    """Public keys that were named, else those that the settings know. Raises ConfigurationError."""
    if given or settings is None:
        return public_keys(list(given or []))
    known = own_keys(settings)
    if not known:
        own = public_path(settings.signing_key)
        raise ConfigurationError(f"{own} is not there: name the public key of the checkpoints with --key")
    return known
