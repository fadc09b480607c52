"""Settings of the audit trail: ULTRATHINK_FORENSICS_* in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.kafka.topics import TOPICS

#: In days.
SEVEN_YEARS = 2557


class ForensicsSettings(BaseSettings):
    """Frozen."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_FORENSICS_", frozen=True, extra="forbid")

    kafka_bootstrap: str = "127.0.0.1:9092"
    decisions_topic: str = TOPICS.decisions
    orders_topic: str = TOPICS.orders
    fills_topic: str = TOPICS.fills
    dead_letters_topic: str = TOPICS.dead_letters
    control_topic: str = TOPICS.control
    starts_topic: str = TOPICS.starts
    releases_topic: str = TOPICS.releases
    experiments_topic: str = TOPICS.experiments
    checkpoints_topic: str = TOPICS.checkpoints
    ticks_topic: str = Field(default=TOPICS.ticks, description="what a replay decides again")
    ticks_archive: Path | None = Field(
        default=None, description="where a replay finds ticks that Kafka no longer holds: the data service's"
    )
    account: str | None = Field(default=None, description="for a replay; None: as the gateway's start on record")
    strategy: str | None = Field(default=None, description="for a replay; None: as the gateway's start on record")
    rebalance_band: float | None = Field(
        default=None, ge=0, lt=1, description="for a replay; None: as the gateway's start on record"
    )
    postgres_url: SecretStr = Field(
        default=SecretStr("postgresql://forensics@127.0.0.1:5432/ultrathink"),
        description="as the role that may add and read, and nothing else",
    )
    owner_url: SecretStr = Field(
        default=SecretStr(""), description="as the schema's owner, to migrate it at the start; empty does not"
    )
    reader_url: SecretStr = Field(
        default=SecretStr("postgresql://reader@127.0.0.1:5432/ultrathink"),
        description="as the role that may read: what looks at the trail uses this one",
    )
    signing_key: Path = Field(default=Path("secrets/forensics-signing-key"), description="Ed25519 in PEM")
    trusted_keys: list[Path] = Field(
        default=[], description="public keys in PEM, beside the signing key's own: those of before"
    )
    checkpoints: Path = Field(default=Path("trail"), description="folder of the signed checkpoints")
    keep_days: int = Field(
        default=SEVEN_YEARS, ge=SEVEN_YEARS, le=36_525,
        description="so long decisions, orders, fills and dead letters are kept; nothing younger can be retired",
    )  # fmt: skip
    releases_journal: Path | None = Field(
        default=None, description="journal.jsonl of the model repository; None publishes no releases"
    )
    look_s: float = Field(
        default=10.0, gt=0, description="between two looks for new partitions, and what was accepted"
    )
    verify_at: str = Field(
        default="03:00", pattern=r"^(([01]\d|2[0-3]):[0-5]\d|never)$",
        description="time of the day, in UTC, at which all of the trail is verified; or never",
    )  # fmt: skip
    nice: int = Field(default=10, ge=0, le=19, description="how far its process yields to those that decide")
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9109, ge=0, le=65535)
    trace_exporter: Literal["none", "otlp", "console"] = Field(
        default="none", description="of spans; OTEL_EXPORTER_OTLP_ENDPOINT says where otlp sends them"
    )
    trace_share: float = Field(default=0.01, ge=0, le=1, description="of all trace ids")

    def roles(self) -> dict[str, str]:
        """The topics on the trail -> their roles."""
        return {
            self.decisions_topic: "decisions",
            self.orders_topic: "orders",
            self.fills_topic: "fills",
            self.dead_letters_topic: "dead_letters",
            self.control_topic: "control",
            self.starts_topic: "starts",
            self.releases_topic: "releases",
            self.experiments_topic: "experiments",
        }
