"""Who is at work, as it is written on record."""

from __future__ import annotations

import getpass
import os


def current_user() -> str:
    """The name of whoever runs this process; a number where the machine has none, as in a container."""
    try:
        return getpass.getuser()
    # A KeyError before Python 3.13: a stop must not fail for a name.
    except (KeyError, OSError):
        return f"user {os.getuid()}"
