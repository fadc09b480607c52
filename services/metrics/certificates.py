"""Until when certificates hold: the one of Kafka's authority, and what each broker that is named shows."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from prometheus_client.core import GaugeMetricFamily, Metric

from trading.errors import ConfigurationError

#: So long a broker may take to show its own.
ANSWER_S = 2.0
#: Where none is named, as Kafka's clients have it.
PORT = 9092


class CertificateSource:
    """Implements Source; of a broker that does not answer, KafkaSource tells."""

    name = "certificates"

    def __init__(self, bootstrap: str, authority: Path) -> None:
        """Nothing is read yet; `authority` holds one or more certificates in PEM."""
        self._brokers, self._authority = [one.strip() for one in bootstrap.split(",")], authority

    def look(self) -> Sequence[Metric]:
        """See Source. Raises ConfigurationError where the authority's file is none."""
        end = GaugeMetricFamily(
            "ultrathink_certificate_expiry_timestamp_seconds", "When it holds no more.", labels=["certificate"]
        )
        end.add_metric([self._authority.name], end_of(self._authority))
        for broker in self._brokers:
            # An address that is none is as little seen as a broker that is away.
            with contextlib.suppress(OSError, ValueError):
                end.add_metric([broker], shown_by(broker))
        return [end]

    def close(self) -> None:
        """See Source."""


def end_of(authority: Path) -> float:
    """Seconds since the epoch. Of several the last counts: an authority's old one stays beside its new one."""
    try:
        found = x509.load_pem_x509_certificates(authority.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{authority} cannot be read as certificates in PEM: {error}") from error
    return max(one.not_valid_after_utc.timestamp() for one in found)


def shown_by(broker: str) -> float:
    """Until when the certificate of a broker (HOST:PORT) holds, in seconds since the epoch. Raises OSError."""
    # Kafka's protocols have a character that no scheme may have.
    address = urlsplit(f"//{broker.rpartition('//')[2]}")
    # One that holds no more is looked at too; nothing is sent to it.
    unproven = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unproven.check_hostname, unproven.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address.hostname, address.port or PORT), timeout=ANSWER_S) as connection,
        unproven.wrap_socket(connection, server_hostname=address.hostname) as encrypted,
    ):
        shown = encrypted.getpeercert(binary_form=True)
    if shown is None:
        raise ConnectionError(f"{broker} shows no certificate")
    return x509.load_der_x509_certificate(shown).not_valid_after_utc.timestamp()
