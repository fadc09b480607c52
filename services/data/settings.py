"""Settings of the data service: ULTRATHINK_DATA_* in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.kafka.topics import TOPICS
from trading.intake import Admission


class DataSettings(BaseSettings):
    """Frozen."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_DATA_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8010, ge=0, le=65535)
    token: SecretStr = Field(
        default=SecretStr(""), description='the desk\'s own, which may ask everything; "" is none'
    )
    tokens: Path = Field(
        default=Path("secrets/data-tokens.json"),
        description="who else may ask what; `ultrathink data token` writes it",
    )
    kafka_bootstrap: str = "127.0.0.1:9092"
    ticks_topic: str = TOPICS.ticks
    symbols: str = Field(default="", description="as the gateway's: what else comes is no tick")
    max_symbols: int = Field(default=4096, ge=1, description="of a partition, as the gateway's")
    postgres_url: SecretStr = Field(
        default=SecretStr("postgresql://reader@127.0.0.1:5432/ultrathink"),
        description="of the trail, as the role that may read",
    )
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    archive: Path = Field(default=Path("archive"), description="folder of the ticks and features that were lived")
    memory_rows: int = Field(default=200_000, ge=1000, description="newest ticks of all symbols, in memory")
    flush_s: float = Field(default=60.0, gt=0, description="ticks are archived so often")
    most_days: int = Field(default=31, ge=1, description="that one question may span")
    requests_per_s: int = Field(default=2000, ge=1, description="of one token; more are answered 429")
    most_at_once: int = Field(default=64, ge=1, description="requests in work; more are answered 429")
    most_tails: int = Field(default=32, ge=0, description="live tails at once")
    most_body_bytes: int = Field(default=1_048_576, ge=1024)
    cache_mb: int = Field(default=64, ge=0, description="of answers in this process")
    redis_cache_mb: int = Field(
        default=16, ge=0, description="of answers a minute in Redis, which keeps the desk's latches too; 0: none"
    )
    history_mb: int = Field(default=512, ge=64, description="that a question to the archive may take")
    nice: int = Field(default=5, ge=0, le=19, description="how far its process yields to those that decide")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def admission(self) -> Admission:
        """What is a tick."""
        listed = frozenset(name.strip() for name in self.symbols.split(",") if name.strip())
        return Admission(listed, self.max_symbols)
