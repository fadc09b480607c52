"""Settings of the audit trail: ULTRATHINK_FORENSICS_* in the environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.kafka.topics import TOPICS


class ForensicsSettings(BaseSettings):
    """Frozen."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_FORENSICS_", frozen=True, extra="forbid")

    kafka_bootstrap: str = "127.0.0.1:9092"
    group: str = "forensics"
    decisions_topic: str = TOPICS.decisions
    trace_exporter: Literal["none", "otlp", "console"] = Field(
        default="none", description="of spans; OTEL_EXPORTER_OTLP_ENDPOINT says where otlp sends them"
    )
    trace_share: float = Field(default=0.01, ge=0, le=1, description="of all trace ids")
    postgres_url: SecretStr = SecretStr("postgresql://ultrathink@127.0.0.1:5432/ultrathink")
