"""The sources of the settings."""

from __future__ import annotations

from connectors.kafka.identity import authority
from services.metrics.certificates import CertificateSource
from services.metrics.gathering import Source
from services.metrics.kafka import KafkaSource
from services.metrics.machine import MachineSource
from services.metrics.postgres import PostgresSource
from services.metrics.redis import RedisSource
from services.metrics.settings import MetricsSettings
from services.metrics.trainings import TrainingsSource


def sources_of(settings: MetricsSettings) -> list[Source]:
    """A source a server that has an address, and this machine. Raises ConfigurationError for what is none."""
    found: list[Source] = [KafkaSource(settings.kafka_bootstrap)] if settings.kafka_bootstrap else []
    if settings.kafka_bootstrap and (certificates := authority()) is not None:
        found.append(CertificateSource(settings.kafka_bootstrap, certificates))
    if url := settings.postgres_url.get_secret_value():
        found.append(PostgresSource(url))
    if url := settings.redis_url.get_secret_value():
        found.append(RedisSource(url))
    if uri := settings.mlflow_uri.get_secret_value():
        found.append(TrainingsSource(uri))
    if settings.disk is not None:
        found.append(MachineSource(settings.disk.expanduser().resolve()))
    return found
