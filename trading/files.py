"""Files that are whole or not there, whoever reads them and whenever."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(
    path: Path, content: bytes | Callable[[BinaryIO], object], *, mode: int = 0o644, durable: bool = True
) -> None:
    """Write beside the target and rename: a reader sees what was there, or all of the new.

    Args:
        path: the target; its folder exists.
        content: bytes, or what writes them to a file.
        mode: of the new file, from its first byte on.
        durable: whether it must survive a power cut; what is written again each second need not.

    Raises:
        OSError: it cannot be written; the target is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Text that other processes read while we write it; makes the folder. Not durable: see replace_file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode(), mode=mode, durable=False)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
