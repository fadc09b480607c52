"""Settings of the paper broker: ULTRATHINK_BROKER_* in the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.kafka.topics import TOPICS

if TYPE_CHECKING:
    from services.paper_broker.broker import FillModel


class BrokerSettings(BaseSettings):
    """Frozen."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_BROKER_", frozen=True, extra="forbid")

    kafka_bootstrap: str = "127.0.0.1:9092"
    group: str = "paper-broker"
    orders_topic: str = TOPICS.orders
    fills_topic: str = TOPICS.fills
    control_topic: str = TOPICS.control
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9110, ge=0, le=65535)
    latency_ms: float = Field(default=8.0, ge=0)
    jitter_ms: float = Field(default=4.0, ge=0, description="mean of what comes on top of the latency")
    partial_share: float = Field(default=0.2, ge=0, le=1)
    reject_share: float = Field(default=0.002, ge=0, le=1)
    cancel_share: float = Field(default=0.005, ge=0, le=1)
    slippage_bps: float = Field(default=0.2, ge=0)
    fee_bps: float = Field(default=0.5, ge=0)
    seed: int = 7

    def fill_model(self) -> FillModel:
        """How good the broker is."""
        # Every command that looks for settings reads these: what answers orders is slow to import.
        from services.paper_broker.broker import FillModel

        names = FillModel.__struct_fields__
        return FillModel(**{name: getattr(self, name) for name in names})
