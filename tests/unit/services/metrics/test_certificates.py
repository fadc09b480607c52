"""Until when certificates hold: an authority's file, and a server that shows its own."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.kafka.identity import CA, SECRETS
from services.metrics.bootstrap import sources_of
from services.metrics.certificates import CertificateSource
from services.metrics.settings import MetricsSettings
from trading.errors import ConfigurationError

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(days):
    """One of its own authority, in PEM, that ends so many days from now; of those before now it is expired."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(NOW - dt.timedelta(days=400))
        .not_valid_after(NOW + dt.timedelta(days=days)).sign(KEY, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(serialization.Encoding.PEM)


def after(days):
    return (NOW + dt.timedelta(days=days)).timestamp()


@pytest.fixture
def broker(tmp_path):
    """Address of a server whose certificate ended yesterday."""
    chain = tmp_path / "broker.pem"
    chain.write_bytes(
        certificate(-1)
        + KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)

    def answer():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, context.wrap_socket(connection, server_side=True) as encrypted:
                encrypted.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def authority(tmp_path):
    """The file of one that was renewed."""
    path = tmp_path / "ca.crt"
    path.write_bytes(certificate(5) + certificate(300))
    return path


def told(source):
    (family,) = source.look()
    return {sample.labels["certificate"]: sample.value for sample in family.samples}


def test_of_an_authority_the_last_counts_and_of_a_broker_what_it_shows_even_where_it_has_ended(authority, broker):
    source = CertificateSource(f"{broker},SASL_SSL://{broker}", authority)
    assert told(source) == {"ca.crt": after(300), broker: after(-1), f"SASL_SSL://{broker}": after(-1)}
    authority.write_bytes(certificate(5))
    assert told(source)["ca.crt"] == after(5)
    source.close()


def test_a_broker_that_is_away_or_speaks_no_tls_hides_nobody_else(authority, broker):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = f"127.0.0.1:{silent.getsockname()[1]}"
    assert told(CertificateSource(f"{away},nowhere.invalid,{broker},broker:abc,::1:9093", authority)) == {
        "ca.crt": after(300), broker: after(-1),
    }  # fmt: skip


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAA==\n"])
def test_a_file_that_is_no_certificate_is_named(tmp_path, content):
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"ca\.crt cannot be read as certificates in PEM"):
        CertificateSource("127.0.0.1:1", path).look()


def test_they_are_looked_at_where_connections_to_kafka_are_encrypted(authority, tmp_path, monkeypatch):
    settings = MetricsSettings(mlflow_uri="", disk=None)
    assert "certificates" not in [source.name for source in sources_of(settings)]
    (tmp_path / "kafka-operator").write_text("password")
    monkeypatch.setenv(SECRETS, str(tmp_path))
    monkeypatch.setenv(CA, str(authority))
    assert "certificates" in [source.name for source in sources_of(settings)]
    assert "certificates" not in [s.name for s in sources_of(settings.model_copy(update={"kafka_bootstrap": ""}))]
