"""A path that a shell and a Java program can be given, of a folder that may lie anywhere.

Triton starts its Python backends through a shell, which splits a path at its spaces and stumbles over parentheses;
Java reads a letter beyond ASCII in a properties file as two others, and makes a folder so named. Both get a link.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
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
    name = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    why = ""
    for place in places_of_links():
        link = place / name
        try:
            if not link.is_symlink() or link.readlink() != folder:
                make_link(link, folder)
        except OSError as error:
            # A cache that can be read only, or a folder where the link should be.
            why = f"{link}: {error.strerror}; "
        else:
            return link
    raise ConfigurationError(
        f"{why}no link to {str(folder)[:200]} could be made: a folder of yours whose path has letters, digits and "
        "_ . / - alone is needed for it; set XDG_CACHE_HOME or TMPDIR"
    )


def make_link(link: Path, folder: Path) -> None:
    """Whole at once, for whoever looks at the same time. Raises OSError."""
    made = link.with_name(f".{link.name}-{secrets.token_hex(4)}")
    made.symlink_to(folder, target_is_directory=True)
    try:
        made.replace(link)
    except OSError:
        made.unlink(missing_ok=True)
        raise


def places_of_links(candidates: Sequence[Path] | None = None) -> Iterator[Path]:
    """Folders that are ours alone."""
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
            yield place
