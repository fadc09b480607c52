"""Settings of the metrics process: ULTRATHINK_METRICS_* in the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class MetricsSettings(BaseSettings):
    """Frozen. An address that is empty is of a server that is not watched."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_METRICS_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=9111, ge=0, le=65535)
    kafka_bootstrap: str = "127.0.0.1:9092"
    postgres_url: SecretStr = Field(default=SecretStr(""), description="of a role that may read, and no more")
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    mlflow_uri: SecretStr = Field(
        default=SecretStr("http://127.0.0.1:5000"), description="who knows of trainings; it may hold a password"
    )
    disk: Path | None = Field(
        default=Path(), description="a folder on the disk that is watched; of a machine with node-exporter: empty"
    )
    models: Path | None = Field(
        default=None, description="a model repository whose releases are told of; None: the embedded stack's own"
    )
    every_s: float = Field(default=5.0, gt=0, description="between two looks")
    nice: int = Field(default=5, ge=0, le=19)

    @field_validator("disk", "models", mode="before")
    @classmethod
    def _empty_is_none(cls, given: object) -> object:
        return None if given == "" else given
