"""Which keys a trail calls its own: by its settings, and by the private one alone where a container has no other."""

from __future__ import annotations

import pytest

from services.forensics.own_keys import own_keys
from services.forensics.settings import ForensicsSettings
from trading.errors import ConfigurationError
from trading.keys import key_id, make_keys, public_path


@pytest.fixture
def private(tmp_path):
    return tmp_path / "signing-key"


def test_nobody_has_signed_where_no_key_is_told(private):
    assert own_keys(ForensicsSettings(signing_key=private)) == {}


@pytest.mark.parametrize("has_public", [True, False])
def test_whoever_signs_is_known_by_either_half(private, has_public):
    key = make_keys(private)
    if not has_public:
        public_path(private).unlink()
    assert set(own_keys(ForensicsSettings(signing_key=private))) == {key_id(key.public_key())}


def test_whoever_may_not_sign_is_handed_the_public_half(private):
    key = make_keys(private)
    private.unlink()
    assert set(own_keys(ForensicsSettings(signing_key=private))) == {key_id(key.public_key())}


def test_those_of_before_are_known_too(private, tmp_path):
    old, new = make_keys(tmp_path / "old"), make_keys(private)
    settings = ForensicsSettings(signing_key=private, trusted_keys=[public_path(tmp_path / "old")])
    assert set(own_keys(settings)) == {key_id(old.public_key()), key_id(new.public_key())}


def test_what_is_no_key_is_a_sentence(private):
    private.write_text("rubbish")
    private.chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds no private key"):
        own_keys(ForensicsSettings(signing_key=private))
    public_path(private).write_text("rubbish")
    with pytest.raises(ConfigurationError, match="holds no public key"):
        own_keys(ForensicsSettings(signing_key=private))
