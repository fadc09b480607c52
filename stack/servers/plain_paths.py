"""A path that a shell and a Java program can be given, of a folder that may lie anywhere.

Triton starts its Python backends through a shell, which splits a path at its spaces and stumbles over parentheses;
Java reads a letter beyond ASCII in a properties file as two others, and makes a folder so named. Both get a link.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path

from trading.errors import ConfigurationError

PLAIN = re.compile(r"[A-Za-z0-9_./+@:=-]+")


def plain(folder: Path) -> Path:
    """The folder itself where its path is plain, else a link to it in a place of our own.

    Args:
        folder: an absolute path; it need not exist yet.

    Raises:
        ConfigurationError: no place for a link has a plain path, or somebody else's folder is there.
    """
    if PLAIN.fullmatch(str(folder)):
        return folder
    place = place_of_links()
    link = place / hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    if not link.is_symlink() or link.readlink() != folder:
        # Whole at once, for whoever looks at the same time.
        made = place / f".{link.name}-{os.getpid()}"
        made.unlink(missing_ok=True)
        made.symlink_to(folder, target_is_directory=True)
        made.replace(link)
    return link


def place_of_links(candidates: Sequence[Path] | None = None) -> Path:
    """A folder that is ours alone. Raises ConfigurationError."""
    if candidates is None:
        candidates = [user_cache_path("ultrathink") / "links"]
        candidates += [Path(root) / f"ultrathink-links-{os.getuid()}" for root in (tempfile.gettempdir(), "/tmp")]  # noqa: S108 - ours alone, which is checked
    for place in candidates:
        if not PLAIN.fullmatch(str(place)):
            continue
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        found = place.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return place
    raise ConfigurationError(
        f"no folder for links was found among {', '.join(map(str, candidates))}: a path of letters, digits and "
        "_ . / - alone is needed for one, and it must be yours; set XDG_CACHE_HOME or TMPDIR"
    )
