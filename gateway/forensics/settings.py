"""Settings of the audit trail: ULTRATHINK_FORENSICS_* in the environment."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ForensicsSettings(BaseSettings):
    """Frozen."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_FORENSICS_", frozen=True, extra="forbid")

    kafka_bootstrap: str = "127.0.0.1:9092"
    group: str = "forensics"
    decisions_topic: str = "trading.decisions"
    postgres_url: SecretStr = SecretStr("postgresql://ultrathink@127.0.0.1:5432/ultrathink")
