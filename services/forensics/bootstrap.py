"""Builds the audit trail on its adapters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.listening import serve_metrics
from connectors.migrations import migrate
from connectors.spans import tracer_if_asked
from services.forensics import daily_verification
from services.forensics.checkpoint_files import PUBLIC_KEY, CheckpointFiles
from services.forensics.observing import Metrics
from services.forensics.ports import Alarm, Observer
from services.forensics.recording import Recorder
from services.forensics.release_journal import JournalShipper
from services.forensics.retention import DailyRetention
from services.forensics.settings import ForensicsSettings
from services.forensics.signing import Signer
from services.forensics.source import KafkaSource
from services.forensics.store.writer import TrailWriter
from services.forensics.topic_lines import SOON_S, TopicLines
from trading.errors import ConfigurationError
from trading.files import replace_file
from trading.keys import key_id, private_key, public_keys, to_pem

MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA = "trail"
#: A forensics that was killed is still connected for a moment.
OTHER_S = 5.0
Beside = Callable[[], Sequence[Alarm]]


def migrate_trail(owner_url: str, to: str = "head") -> tuple[str, str]:
    """Bring the schema to the newest version; returns the versions before and after. Raises as `migrate`."""
    return migrate(owner_url, MIGRATIONS, SCHEMA, to)


def hand_out(folder: Path, key: Ed25519PrivateKey) -> None:
    """The public key, beside what it signed: whoever reads the checkpoints in another container has it there.

    Who trusts nobody takes it from where it was made. Raises ConfigurationError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / PUBLIC_KEY, to_pem(key.public_key()).encode())
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from error


@contextmanager
def build(
    settings: ForensicsSettings,
    stopping: threading.Event,
    turn: Callable[[int, str], None],
    verify: Sequence[str] = (),
) -> Iterator[Recorder]:
    """Connect; whatever was opened is closed at the end.

    Args:
        settings: of the trail.
        stopping: ends the recorder.
        turn: told in every turn how many records were stored, and what is waited for.
        verify: a command that verifies the trail, and prints what it found as JSON; () for none.

    Raises:
        ServiceUnavailable: PostgreSQL does not answer, or another forensics writes.
        ConfigurationError: the key is none, or the schema is not there.
    """
    key = private_key(settings.signing_key)
    trusted = {key_id(key.public_key()): key.public_key(), **public_keys(settings.trusted_keys)}
    with ExitStack() as opened:
        files = CheckpointFiles(settings.checkpoints)
        if owner := settings.owner_url.get_secret_value():
            migrate_trail(owner)
            opened.callback(DailyRetention(owner, files, trusted, settings.keep_days).start())
        trail = TrailWriter(settings.postgres_url.get_secret_value(), OTHER_S)
        opened.callback(trail.close)
        service = "ultrathink-forensics"
        metrics = Metrics(turn, tracer_if_asked(settings.trace_exporter, service, settings.trace_share, opened))
        _, close = serve_metrics(
            metrics.registry, settings.metrics_host, settings.metrics_port, "ULTRATHINK_FORENSICS_METRICS_PORT"
        )
        opened.callback(close)
        source = KafkaSource(settings.kafka_bootstrap, settings.roles())
        opened.callback(source.close)
        checkpoints = TopicLines(settings.kafka_bootstrap, settings.checkpoints_topic, SOON_S)
        opened.callback(checkpoints.close)
        hand_out(settings.checkpoints, key)
        signer = Signer(key, trusted, files, checkpoints, trail)
        beside = [*ships_releases(settings, opened), *verifies(settings, verify, metrics, opened)]
        yield Recorder(source, trail, signer, metrics, stopping, look_s=settings.look_s, beside=beside)


def ships_releases(settings: ForensicsSettings, opened: ExitStack) -> list[Beside]:
    """What publishes the journal of releases; [] where no repository of models is at hand."""
    if settings.releases_journal is None:
        return []
    releases = TopicLines(settings.kafka_bootstrap, settings.releases_topic)
    opened.callback(releases.close)
    return [JournalShipper(settings.releases_journal, releases).ship]


def verifies(
    settings: ForensicsSettings, command: Sequence[str], observer: Observer, opened: ExitStack
) -> list[Beside]:
    """What tells of the day's verification; [] where nobody verifies."""
    verification = daily_verification.of(settings, command, observer)
    if verification is None:
        return []
    opened.callback(verification.start())
    return [verification.alarms]
