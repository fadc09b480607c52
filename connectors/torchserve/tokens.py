"""TorchServe's tokens, which it makes anew at each start, and whenever they are rotated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from trading.errors import ConfigurationError, ServiceUnavailable

#: Where the server writes all of them, in the folder that it was started in; only its own user may read it.
KEY_FILE = "key_file.json"
Purpose = Literal["inference", "management", "API"]
#: A token as it is now: asked for anew after each refusal.
Token = Callable[[], str]


def of_file(path: Path) -> Token:
    """A token that lies alone in a file: what one who only asks, or only manages, is given.

    What is returned raises ServiceUnavailable where it cannot be read.
    """

    def read() -> str:
        try:
            return path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ServiceUnavailable(
                f"{path} with TorchServe's token cannot be read ({error}): `ultrathink stack up --with torchserve` "
                "writes it once the server has started"
            ) from error

    return read


def of_key_file(path: Path, purpose: Purpose) -> Token:
    """A token of the server's own file, which holds all of them.

    What is returned raises ServiceUnavailable where it cannot be read.
    """

    def read() -> str:
        try:
            return str(json.loads(path.read_bytes())[purpose]["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ServiceUnavailable(f"{path} with TorchServe's tokens cannot be read: {error}") from error

    return read


def fixed(text: str) -> Token:
    """A token that somebody has given. Raises ConfigurationError for what no header can carry."""
    if not (text.isascii() and text.isprintable()):
        raise ConfigurationError("TorchServe's token holds what no header can carry")
    return lambda: text
