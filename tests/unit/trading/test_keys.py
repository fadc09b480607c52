"""Keys that sign: files, and what is refused."""

from __future__ import annotations

import pytest

from trading.errors import BadRecord, ConfigurationError
from trading.keys import (
    check_signature,
    key_id,
    make_keys,
    private_key,
    public_keys,
    public_path,
    signature_of,
)  # fmt: skip


def test_keys_are_made_once_and_the_private_one_is_its_owners(tmp_path):
    path = tmp_path / "secrets" / "key"
    made = make_keys(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert key_id(private_key(path).public_key()) == key_id(made.public_key())
    assert list(public_keys([public_path(path)])) == [key_id(made.public_key())]
    with pytest.raises(ConfigurationError, match="is there already"):
        make_keys(path)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        private_key(path)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "no private key"), (b"-----BEGIN", "no private key"), (None, "cannot be read")]
)
def test_what_is_no_key_is_said(tmp_path, content, said):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=said):
        private_key(path)
    with pytest.raises(ConfigurationError, match=r"public key|cannot be read"):
        public_keys([path])


def test_a_signature_is_of_these_bytes_and_that_key(tmp_path):
    key, other = make_keys(tmp_path / "key"), make_keys(tmp_path / "other")
    name, keys = key_id(key.public_key()), public_keys([public_path(tmp_path / "key")])
    signature = signature_of(b"content", key)
    check_signature("a word", b"content", name, signature, keys)
    for content, signed in ((b"other content", signature), (b"content", signature_of(b"content", other))):
        with pytest.raises(BadRecord, match="the signature of a word does not fit"):
            check_signature("a word", content, name, signed, keys)
    with pytest.raises(BadRecord, match="does not fit"):
        check_signature("a word", b"content", name, "no base64!", keys)
    with pytest.raises(BadRecord, match="which is not trusted"):
        check_signature("a word", b"content", key_id(other.public_key()), signature_of(b"content", other), keys)


#: An Ed25519 key's structure with an algorithm (1.2.3.4) that no library knows.
UNKNOWN = "MCgwAwYDKgMEAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.mark.parametrize("body", [UNKNOWN, "MCow"])
def test_a_key_of_a_kind_that_nobody_knows_is_a_sentence(tmp_path, body):
    path = tmp_path / "key.pub"
    path.write_text(f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    with pytest.raises(ConfigurationError, match="holds no public key in PEM"):
        public_keys([path])
