"""Keys that sign what is on record: Ed25519, in PEM. The private one is its owner's alone."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from trading.errors import BadRecord, ConfigurationError
from trading.files import replace_file

OTHERS = 0o077
#: Public keys that are trusted, by their ids.
Keys = Mapping[str, Ed25519PublicKey]


def key_id(key: Ed25519PublicKey) -> str:
    """What a key is called: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return sha256(raw).hexdigest()[:16]


def public_path(private: Path) -> Path:
    """Where the public half lies: beside the private one."""
    return private.with_name(private.name + ".pub")


def make_keys(private: Path) -> Ed25519PrivateKey:
    """Make a pair: the private key at this path, readable by its owner alone, and the public one beside it.

    Raises:
        ConfigurationError: there is a key already: checkpoints that it signed must stay verifiable.
    """
    if private.exists():
        raise ConfigurationError(f"{private} is there already: name another file, and keep the old public key")
    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        replace_file(private, content, mode=0o600)
        replace_file(public_path(private), to_pem(key.public_key()).encode())
    except OSError as error:
        raise ConfigurationError(f"{private} cannot be written: {error.strerror}") from error
    return key


def to_pem(key: Ed25519PublicKey) -> str:
    """A public key as it is handed out."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def private_key(path: Path) -> Ed25519PrivateKey:
    """Raises ConfigurationError for what is no such key, and for one that others may read."""
    content = read(path, "`ultrathink forensics keygen` makes one")
    mode, mine = path.stat().st_mode, path.stat().st_uid in {os.geteuid(), 0}
    # A container's secret is mounted read-only, with the mode that its engine gives it.
    if mode & OTHERS and os.access(path, os.W_OK) and mine:
        raise ConfigurationError(f"{path} may be read by others: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            f"{path} holds no private key in PEM: `ultrathink forensics keygen` makes one"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} holds a key of another kind: Ed25519 is needed")
    return key


def public_keys(paths: Iterable[Path]) -> dict[str, Ed25519PublicKey]:
    """Keys by their ids. Raises ConfigurationError."""
    found = {}
    for path in paths:
        try:
            key = serialization.load_pem_public_key(read(path, "it is the file that ends in .pub"))
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigurationError(
                f"{path} holds no public key in PEM: it is the file that ends in .pub"
            ) from None
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigurationError(f"{path} holds a key of another kind: Ed25519 is needed")
        found[key_id(key)] = key
    return found


def signature_of(content: bytes, key: Ed25519PrivateKey) -> str:
    """In base64."""
    return b64encode(key.sign(content)).decode()


def check_signature(what: str, content: bytes, name: str, signature: str, keys: Keys) -> None:
    """Raise BadRecord unless one of the keys, the one of that id, has signed the content of `what`."""
    key = keys.get(name)
    if key is None:
        known = ", ".join(keys) or "none"
        raise BadRecord(f"{what} is signed by the key {name[:64]!r}, which is not trusted (trusted: {known})")
    try:
        key.verify(b64decode(signature, validate=True), content)
    except (InvalidSignature, ValueError):
        raise BadRecord(f"the signature of {what} does not fit the key {name}") from None


def read(path: Path, way_out: str) -> bytes:
    """A key's file. Raises ConfigurationError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"the key {path} cannot be read ({error.strerror}): {way_out}") from error
