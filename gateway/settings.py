"""Settings of the gateway: ULTRATHINK_GATEWAY_* in the environment, or the ecosystem's defaults."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.domain.decision import DecisionPolicy
from gateway.domain.risk import Limits
from gateway.pipeline import PipelineSettings

MS = 1_000_000


class GatewaySettings(BaseSettings):
    """Frozen. Money is in the quote currency; times are milliseconds."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_GATEWAY_", frozen=True, extra="forbid")

    kafka_bootstrap: str = "127.0.0.1:9092"
    group: str = "gateway"
    ticks_topic: str = "market.ticks"
    decisions_topic: str = "trading.decisions"
    dead_letters_topic: str = "market.ticks.dlq"
    triton_url: str = "127.0.0.1:8001"
    model_name: str = "trading_decision"
    model_version: str = Field(default="", description='pinned version; "" pins the newest ready one')
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9108, ge=0, le=65535)
    budget_ms: float = Field(default=50.0, gt=0)
    max_batch: int = Field(default=1024, ge=1, le=1024)
    max_in_flight: int = Field(default=2, ge=1, le=8)
    variant: str = "champion"
    lot: float = Field(default=0.001, gt=0)
    rebalance_band: float = Field(default=0.05, ge=0, lt=1)
    max_order_quantity: float = Field(default=1e9, gt=0)
    max_order_notional: float = Field(default=50_000.0, gt=0)
    max_position_notional: float = Field(default=100_000.0, gt=0)
    max_gross_notional: float = Field(default=1_000_000.0, gt=0)
    max_staleness_ms: float = Field(default=5_000.0, gt=0)
    halted_allows_exits: bool = False

    def policy(self, partitions: int) -> DecisionPolicy:
        """The policy of one partition's book, which gets its share of the gross limit.

        Partitions are decided independently, so that each can be rebuilt from its own log; equal
        shares keep their sum within the desk's limit without asking one another.
        """
        return DecisionPolicy(
            limits=Limits(
                max_order_quantity=self.max_order_quantity,
                max_order_notional=self.max_order_notional,
                max_position_notional=self.max_position_notional,
                max_gross_notional=self.max_gross_notional / partitions,
                max_staleness_ns=int(self.max_staleness_ms * MS),
                halted_allows_exits=self.halted_allows_exits,
            ),
            lot=self.lot,
            rebalance_band=self.rebalance_band,
        )

    def pipeline(self) -> PipelineSettings:
        """What the pipeline needs."""
        return PipelineSettings(
            budget_ns=int(self.budget_ms * MS),
            max_batch=self.max_batch,
            max_in_flight=self.max_in_flight,
            variant=self.variant,
        )
