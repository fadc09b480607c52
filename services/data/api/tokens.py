"""Who may ask what: tokens by their hashes, in a file that is read again when it changes."""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from services.data.errors import Forbidden, Unauthorized
from trading.encoding import END, Records, encode
from trading.errors import BadRecord, ConfigurationError
from trading.files import replace_file

Scope = Literal["market", "decisions", "analyse"]
#: What each lets its holder do.
SCOPES: dict[Scope, str] = {
    "market": "symbols, ticks and features",
    "decisions": "decisions, positions, profit, regimes, models and limits",
    "analyse": "replays, what-if and simulations, which take the machine's time",
}
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}" + END)]
LOOK_S = 1.0
DESK = "desk"


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    """One that was given out; the token itself is nowhere but with its holder."""

    name: Name
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}" + END)]
    scopes: list[Scope]


class TokenFile(Struct, frozen=True, forbid_unknown_fields=True):
    """All that were."""

    tokens: list[Token]


_files: Records[TokenFile] = Records(TokenFile)


class Tokens:
    """The file as it is now; what cannot be read lets nobody in."""

    def __init__(self, path: Path, desk: str = "") -> None:
        """Read it.

        Args:
            path: of the file, which need not be there.
            desk: the desk's own token, which may ask everything; "" for none.

        Raises:
            ConfigurationError: the file is there and cannot be read.
        """
        self._path, self._looked_s, self._stamp = path, 0.0, (0, 0)
        self._desk = Token(DESK, hashed(desk), list(SCOPES)) if desk else None
        self._known: dict[str, Token] = {}
        self.problem = ""
        self._look()
        if self.problem and path.exists():
            raise ConfigurationError(self.problem)

    def holder(self, authorization: str) -> Token:
        """Whose token it is. Raises Unauthorized."""
        if time.monotonic() - self._looked_s > LOOK_S:
            self._look()
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("send `Authorization: Bearer TOKEN`; `ultrathink data token` makes one")
        # By its hash: how long a look takes says nothing of what is kept.
        asked = hashed(token.strip())
        known = self._desk if self._desk is not None and asked == self._desk.sha256 else self._known.get(asked)
        if known is None:
            raise Unauthorized(self.problem or "this token is not one that was given out, or was taken back")
        return known

    def is_known(self, authorization: str) -> bool:
        """Whether its holder is still let in."""
        try:
            self.holder(authorization)
        except Unauthorized:
            return False
        return True

    def _look(self) -> None:
        self._looked_s = time.monotonic()
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp == self._stamp and not self.problem:
                return
            self._known = {one.sha256: one for one in read_tokens(self._path)}
            self._stamp, self.problem = stamp, ""
        except FileNotFoundError:
            self._known, self.problem = (
                {},
                f"no token was given out yet: `ultrathink data token` writes {self._path}",
            )
        except (OSError, ConfigurationError) as error:
            self._known, self.problem = {}, str(error)


def allow(holder: Token, scope: Scope) -> None:
    """Raises Forbidden where the token may not ask that."""
    if scope not in holder.scopes:
        raise Forbidden(
            f"token {holder.name} has no scope {scope} ({SCOPES[scope]}): its scopes are "
            f"{', '.join(holder.scopes) or 'none'}"
        )


def hashed(token: str) -> str:
    """As it is kept."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read_tokens(path: Path) -> list[Token]:
    """Those of a file. Raises OSError, ConfigurationError."""
    try:
        return _files.read(path.read_bytes()).tokens
    except BadRecord as error:
        raise ConfigurationError(f"{path} holds no tokens: {error}") from None


def give_out(path: Path, name: str, scopes: list[Scope]) -> str:
    """Enter a token under a name; returns the token. Raises ConfigurationError for a name that has one.

    Args:
        path: of the file; made where it is not there.
        name: of its holder.
        scopes: what it may ask.
    """
    if name == DESK:
        raise ConfigurationError(
            f"{DESK} is the name of the desk's own token (ULTRATHINK_DATA_TOKEN): choose another"
        )
    if name in {one.name for one in known_tokens(path)}:
        raise ConfigurationError(
            f"{name} holds a token already: take it back first (`ultrathink data token {name} --take-back`)"
        )
    token = secrets.token_urlsafe(32)
    entry = {"name": name, "sha256": hashed(token), "scopes": scopes}
    try:
        made = msgspec.convert(entry, Token)
    except msgspec.ValidationError:
        raise ConfigurationError(f"{name!r} is no name for a token: 1 to 64 letters, digits, and . _ -") from None
    write_tokens(path, [*(one for one in known_tokens(path) if one.name != name), made])
    return token


def take_back(path: Path, name: str) -> None:
    """Raises ConfigurationError where there is none of this name."""
    known = known_tokens(path)
    if name not in {one.name for one in known}:
        raise ConfigurationError(
            f"{path} has no token of {name!r}: {', '.join(one.name for one in known) or 'none'}"
        )
    write_tokens(path, [one for one in known if one.name != name])


def known_tokens(path: Path) -> list[Token]:
    """Of a file, or none where it is not there. Raises ConfigurationError."""
    try:
        return read_tokens(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def write_tokens(path: Path, tokens: list[Token]) -> None:
    """Whole or not at all. Raises ConfigurationError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.json.format(encode(TokenFile(tokens)), indent=1) + b"\n", mode=0o600)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
