"""Whose checkpoints are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.forensics.settings import ForensicsSettings
from trading.errors import ConfigurationError
from trading.keys import Keys, key_id, private_key, public_keys, public_path


def trusted(settings: ForensicsSettings | None, given: Sequence[Path] | None) -> Keys:
    """Public keys that were named, else those that the settings know. Raises ConfigurationError."""
    if given or settings is None:
        return public_keys(list(given or []))
    own = public_path(settings.signing_key)
    known = dict(public_keys([*settings.trusted_keys, *([own] if own.exists() else [])]))
    if not own.exists() and settings.signing_key.exists():
        # Whoever signs need not be handed his own public key.
        public = private_key(settings.signing_key).public_key()
        known[key_id(public)] = public
    if not known:
        raise ConfigurationError(f"{own} is not there: name the public key of the checkpoints with --key")
    return known
