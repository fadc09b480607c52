"""How compiled code is declared, and where what was compiled is kept.

numba keeps an entry point beside its source and compiles it anew when that one file changes; a change in a
file that it calls into, or takes a constant from, would go unnoticed. So everything is kept in a folder named by
a digest of the whole package but for its readers of history.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import njit
from numba.core.dispatcher import Dispatcher
from platformdirs import user_cache_path

#: Readers of recorded ticks: whatever else lies in this package may be frozen into what is compiled.
NOT_COMPILED = "history"
HERE = Path(__file__).parent
MARKER = "ultrathink-compiled"


@cache
def sources_digest() -> str:
    """Sixteen hexadecimal digits that name the sources of everything that decides."""
    whole = hashlib.blake2b(digest_size=8)
    for path in sorted(HERE.rglob("*.py")):
        if path.relative_to(HERE).parts[0] == NOT_COMPILED:
            continue
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


def mark(folder: Path) -> None:
    """Say whose folder it is, so that it may be deleted by us and by nobody's name alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


numba.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]

#: Every function that `entry` has declared, in the modules that are imported.
ENTRIES: list[Dispatcher] = []
F = TypeVar("F", bound=Callable[..., Any])


def entry(function: F) -> F:
    """A function that plain code calls; kept when compiled, and registered so that none is left out of a warm-up.

    What is divided by zero is no number, and denies: it must not end the gateway.
    """
    compiled = njit(cache=True, nogil=True, error_model="numpy")(function)
    # With NUMBA_DISABLE_JIT nothing is compiled, ever.
    if isinstance(compiled, Dispatcher):
        ENTRIES.append(compiled)
    return cast("F", compiled)


def types_by_entry() -> dict[str, int]:
    """Of each registered function, for how many combinations of types it is compiled or was loaded."""
    return {f"{e.py_func.__module__}.{e.py_func.__name__}": len(e.signatures) for e in ENTRIES}


#: A function that entries call; compiled into them, and kept nowhere: plain code that calls it has it compiled anew
#: in each process.
inline = njit(nogil=True, error_model="numpy")
