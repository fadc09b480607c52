"""Who this process is to Kafka: a role, whose password lies in a folder of secrets; without one, nobody.

A process has one role. It is told once, by the process's own entry point, so that no setting of who connects
travels with every address.
"""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError

from trading.errors import ConfigurationError

#: Folder with a file `kafka-ROLE` a role; set, every connection is authenticated.
SECRETS = "ULTRATHINK_KAFKA_SECRETS"
#: The authority's certificate (PEM): set, connections are encrypted too.
CA = "ULTRATHINK_KAFKA_CA"
#: Who makes topics, users and permissions.
ADMIN = "admin"
#: Who a person at the command line is.
OPERATOR = "operator"
#: What the brokers store of a role is no password.
SCRAM = "SCRAM-SHA-512"

#: So long a refusal counts for why a broker does not answer: a client tries again every second.
RECENT_S = 15.0

_role = OPERATOR
_refused = ("", -RECENT_S)


def act_as(role: str) -> str:
    """Every client that this process makes from now on is of this role; returns the one before."""
    global _role
    before, _role = _role, role
    return before


def role() -> str:
    """Who this process is."""
    return _role


def password(name: str) -> str:
    """Of a role. Raises ConfigurationError where its file cannot be read."""
    path = Path(os.environ[SECRETS]) / f"kafka-{name}"
    try:
        found = path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"the password of Kafka's user {name!r} cannot be read from {path} ({error.strerror}): put it there, "
            f"or unset {SECRETS} where Kafka asks for none"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no text ({error.reason}): write Kafka's password in UTF-8") from None
    if not found:
        raise ConfigurationError(f"{path} is empty: it must hold the password of Kafka's user {name!r}")
    return found


def authority() -> Path | None:
    """The file with the certificate of who vouches for the brokers; None where connections are not encrypted."""
    return Path(named) if (named := os.environ.get(CA)) else None


def credentials() -> dict[str, Any]:
    """What a client adds to its settings; nothing where no folder of secrets is told. Raises ConfigurationError."""
    vouching = authority()
    if not os.environ.get(SECRETS):
        if vouching:
            raise ConfigurationError(f"{CA} is set and {SECRETS} is not: an encrypted connection needs a user too")
        return {}
    found: dict[str, Any] = {
        "error_cb": note_error,
        "security.protocol": "SASL_SSL" if vouching else "SASL_PLAINTEXT",
        # The administrator is known to the brokers before there is a log that could hold users.
        "sasl.mechanism": "PLAIN" if _role == ADMIN else SCRAM,
        "sasl.username": _role,
        "sasl.password": password(_role),
    }
    if vouching:
        try:
            ssl.create_default_context(cafile=vouching)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"{CA} names {vouching}, which is no certificate in PEM: {error}") from None
        found["ssl.ca.location"] = str(vouching)
    return found


def note_error(error: KafkaError) -> None:
    """Told by every client what it meets by itself: a password that is refused looks like a broker that is down."""
    global _refused  # noqa: PLW0603 - as above
    if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001 - its name
        _refused = (error.str(), time.monotonic())


def who_is_refused() -> str:
    """That Kafka has just refused this process's user, with the way out; "" where it has not."""
    said, at_s = _refused
    folder = os.environ.get(SECRETS)
    if not said or not folder or time.monotonic() - at_s > RECENT_S:
        return ""
    path = Path(folder) / f"kafka-{_role}"
    return f"it refuses the user {_role!r}: {path} must hold the right password"
