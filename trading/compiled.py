"""How compiled code is declared, and where what was compiled is kept.

numba keeps an entry point beside its source and compiles it anew when that one file changes; a change in a
file that it calls into would go unnoticed. So everything is kept in a folder named by a digest of all sources
that may be compiled, and by nothing that a kernel can see.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

import numba
from numba import njit
from platformdirs import user_cache_path

#: Whose sources may be compiled; readers of recorded ticks are not.
COMPILED = ("decision", "features", "models", "portfolio", "risk")
HERE = Path(__file__).parent


@cache
def sources_digest() -> str:
    """Sixteen hexadecimal digits that name the sources of everything that decides."""
    whole = hashlib.blake2b(digest_size=8)
    for path in sorted(path for package in COMPILED for path in (HERE / package).rglob("*.py")):
        whole.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def cache_folder() -> Path:
    """Where this very code is kept when compiled: below NUMBA_CACHE_DIR, else beside the sources.

    An installation that may not be written to has it in the user's cache.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        return Path(given) / sources_digest()
    if os.access(HERE, os.W_OK):
        return HERE / "__pycache__" / sources_digest()
    return user_cache_path("ultrathink-pilot") / sources_digest()


numba.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]

#: A function that plain code calls; kept when compiled. What is divided by zero is no number, and denies: it
#: must not end the gateway.
entry = njit(cache=True, nogil=True, error_model="numpy")
#: A function that entries call; compiled into them.
inline = njit(nogil=True, error_model="numpy")
