"""Who a process is to Kafka."""

from __future__ import annotations

import certifi
import pytest
from confluent_kafka import KafkaError

from connectors.kafka import identity
from connectors.kafka.client import KafkaException
from connectors.kafka.errors import translated
from trading.errors import ConfigurationError


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """What a test tells of this process is forgotten after it."""
    for variable in (identity.SECRETS, identity.CA):
        monkeypatch.delenv(variable, raising=False)
    before = identity.act_as("gateway")
    yield
    identity.act_as(before)
    monkeypatch.setattr(identity, "_refused", ("", -identity.RECENT_S))


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    monkeypatch.setenv(identity.SECRETS, str(tmp_path))
    return tmp_path


def told():
    return {name: value for name, value in identity.credentials().items() if name != "error_cb"}


def test_without_a_folder_of_secrets_nobody_says_who_he_is():
    assert identity.credentials() == {}


def test_a_role_is_known_by_its_own_password(secrets):
    (secrets / "kafka-gateway").write_text("s3cret\n")
    assert told() == {
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "gateway",
        "sasl.password": "s3cret",
    }  # fmt: skip


def test_with_an_authority_the_connection_is_encrypted_too(secrets, monkeypatch):
    (secrets / "kafka-gateway").write_text("x")
    authority = certifi.where()
    monkeypatch.setenv(identity.CA, authority)
    assert (told()["security.protocol"], told()["ssl.ca.location"]) == ("SASL_SSL", authority)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_is_none_is_refused_before_anything_connects(secrets, tmp_path, monkeypatch, content):
    (secrets / "kafka-gateway").write_text("x")
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(identity.CA, str(path))
    with pytest.raises(ConfigurationError, match=f"{identity.CA} names {path}"):
        identity.credentials()


def test_an_authority_without_a_user_is_no_plain_connection(monkeypatch):
    monkeypatch.setenv(identity.CA, "/etc/ca.pem")
    with pytest.raises(ConfigurationError, match=f"{identity.SECRETS} is not"):
        identity.credentials()


def test_the_administrator_is_known_before_the_log_is(secrets):
    (secrets / "kafka-admin").write_text("x")
    identity.act_as("admin")
    assert told()["sasl.mechanism"] == "PLAIN"


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read from"), ("\n", "is empty")])
def test_a_password_that_is_not_there_is_a_sentence_that_names_the_file(secrets, content, words):
    if content is not None:
        (secrets / "kafka-gateway").write_text(content)
    with pytest.raises(ConfigurationError, match=words) as refused:
        identity.credentials()
    assert str(secrets / "kafka-gateway") in str(refused.value)


def test_a_broker_that_refuses_the_password_does_not_look_like_one_that_is_down(secrets):
    down = KafkaException(KafkaError(KafkaError._TRANSPORT))
    assert "does not answer" in str(translated(down, "x"))
    identity.note_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert "does not answer" in str(translated(down, "x"))
    identity.note_error(KafkaError(KafkaError._AUTHENTICATION))
    assert f"refuses the user 'gateway': {secrets / 'kafka-gateway'} must hold" in str(translated(down, "x"))


def test_whoever_says_nothing_is_told_how_to_say_it():
    down = KafkaException(KafkaError(KafkaError._TRANSPORT))
    assert f"or set {identity.SECRETS} where it asks for a password" in str(translated(down, "x"))


def test_a_password_of_odd_bytes_is_a_sentence_too(secrets):
    (secrets / "kafka-gateway").write_bytes(b"p\xe4ss")
    with pytest.raises(ConfigurationError, match="is no text"):
        identity.credentials()
