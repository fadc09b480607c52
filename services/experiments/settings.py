"""Settings of the experiments' process: ULTRATHINK_EXPERIMENTS_* in the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.kafka.topics import TOPICS


class ExperimentsSettings(BaseSettings):
    """Frozen. Where ticks and decisions lie, and where Triton is, a gateway's settings say."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_EXPERIMENTS_", frozen=True, extra="forbid")

    experiments_topic: str = TOPICS.experiments
    folder: Path = Field(
        default=Path(".ultrathink/experiments"), description="of checkpoints, of this process alone"
    )
    repository: Path | None = Field(
        default=None, description="where challengers lie that are not served; None: the embedded stack's own"
    )
    mlflow_uri: str | None = Field(
        default=None, description="who knows where models come from; None: the embedded stack's own"
    )
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9112, ge=0, le=65535)
    share: float = Field(default=0.25, gt=0, le=1, description="of the time that calls of Triton may take")
    yield_above_ms: float = Field(
        default=25.0, gt=0, description="p99 of the desk's decisions above which calls take a twentieth of the time"
    )
    keep_s: float = Field(default=5.0, gt=0, description="between two checkpoints")
    nice: int = Field(default=10, ge=0, le=19)
