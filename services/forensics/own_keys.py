"""The keys of a trail: those that sign it, and those that did."""

from __future__ import annotations

from services.forensics.settings import ForensicsSettings
from trading.keys import Keys, key_id, private_key, public_keys, public_path


def own_keys(settings: ForensicsSettings) -> Keys:
    """Public keys by their ids, as far as the settings tell of any. Raises ConfigurationError."""
    own = public_path(settings.signing_key)
    known = dict(public_keys([*settings.trusted_keys, *([own] if own.exists() else [])]))
    if not own.exists() and settings.signing_key.exists():
        # Whoever signs need not be handed his own public key: a container's secrets hold the private one alone.
        public = private_key(settings.signing_key).public_key()
        known[key_id(public)] = public
    return known
