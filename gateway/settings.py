"""Settings of the gateway: ULTRATHINK_GATEWAY_* in the environment, or the ecosystem's defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from connectors.kafka.topics import TOPICS, Topics
from connectors.triton import addresses

if TYPE_CHECKING:
    # Commands that ask a gateway read its settings: what decides takes half a second to import.
    from gateway.pipeline import PipelineSettings
    from trading.decision.policy import DecisionPolicy
    from trading.intake import Admission
    from trading.risk.limits import LimitSet, LimitsFile

MS = 1_000_000
#: A setting of before, which must not be passed over as one that nobody knows.
GONE = "ULTRATHINK_GATEWAY_COMMIT_MS"


class GatewaySettings(BaseSettings):
    """Frozen. Money is in the quote currency; times are milliseconds."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_GATEWAY_", frozen=True, extra="forbid")

    kafka_bootstrap: str = "127.0.0.1:9092"
    group: str = "gateway"
    instance: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]{0,100}$", description='lasting name; "" is host and number'
    )
    delivery: Literal["exactly-once", "at-least-once"] = "exactly-once"
    ticks_topic: str = TOPICS.ticks
    decisions_topic: str = TOPICS.decisions
    dead_letters_topic: str = TOPICS.dead_letters
    snapshots_topic: str = TOPICS.snapshots
    control_topic: str = TOPICS.control
    triton_url: str = Field(
        default="127.0.0.1:8001",
        description="host:port of Triton's gRPC; of several, with commas: the first says which version counts",
    )
    server: Literal["triton", "torchserve"] = Field(
        default="triton", description="what serves the model; torchserve is archived upstream: no security fixes"
    )
    torchserve_url: str = Field(default="127.0.0.1:7070", description="host:port of TorchServe's gRPC")
    torchserve_token_file: Path = Field(
        default=Path("secrets/torchserve-inference"),
        description="holds the token for inference; read as it changes",
    )
    model_name: str = "trading_decision"
    model_version: str = Field(default="", description='pinned version; "" pins the newest ready one')
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9108, ge=0, le=65535)
    admin_token: SecretStr = Field(default=SecretStr(""), description='"" refuses every admin call')
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    budget_ms: float = Field(default=50.0, gt=0)
    reserve_ms: float = Field(default=5.0, ge=0, description="of the budget, for risk and publishing")
    shed_below_ms: float = Field(default=15.0, ge=0, description="left of the budget: decide the newest only")
    gather_ms: float = Field(
        default=12.0, ge=0, le=1000, description="between two batches at 2,000 ticks/s and more; less as fewer come"
    )
    order_lifetime_ms: float = Field(
        default=1000.0, ge=1, description="of an order, from its decision; later it neither leaves nor is taken"
    )
    snapshot_s: float = Field(default=1.0, gt=0)
    durable_snapshot_s: float = Field(default=30.0, gt=0)
    trace_exporter: Literal["none", "otlp", "console"] = Field(
        default="none", description="of spans; OTEL_EXPORTER_OTLP_ENDPOINT says where otlp sends them"
    )
    trace_share: float = Field(default=0.01, ge=0, le=1, description="of all trace ids")
    breaker_failures: int = Field(default=5, ge=1)
    max_batch: int = Field(default=1024, ge=1, le=1024)
    max_unpublished: int = Field(default=16, ge=1, le=64, description="batches decided and not yet published")
    variant: str = "champion"
    symbols: str = Field(default="", description='the only ones that are decided, comma-separated; "" is any')
    max_symbols: int = Field(default=4096, ge=1, description="of a partition")
    account: str = Field(default="desk", description="whose limits hold")
    strategy: str = Field(default="", description="whose limits hold")
    limits_file: Path | None = Field(
        default=None, description="limits of a desk that has none yet; later ones come by `risk limits apply`"
    )
    rebinding_keys: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="public keys in PEM, with commas: whose word that a log continues another holds"
    )
    kill_file: Path | None = Field(default=None, description="while it exists the desk is killed, and stays so")
    execution: Literal["assumed", "broker"] = Field(
        default="assumed", description="orders count as filled at once, or go to the broker's topic and come back"
    )
    orders_topic: str = TOPICS.orders
    fills_topic: str = TOPICS.fills
    scratch_topic: str = Field(default=TOPICS.scratch, min_length=1, description="where a start is rehearsed")
    starts_topic: str = Field(default=TOPICS.starts, min_length=1, description="what each start tells of itself")
    longest_rehearsal_s: float = Field(
        default=4.0, ge=0, description="beside servers that have just started; 0: none"
    )
    rebalance_band: float = Field(
        default=0.05, ge=0, lt=1, description="share of the position limit below which a change is not traded"
    )

    @field_validator("rebinding_keys", mode="before")
    @classmethod
    def _files_with_commas(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        return tuple(Path(one.strip()).expanduser() for one in given.split(",") if one.strip())

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if GONE in os.environ:
            raise ValueError(
                f"{GONE} is gone: ULTRATHINK_GATEWAY_GATHER_MS says how long ticks gather between two batches"
            )
        return self

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.reserve_ms >= self.budget_ms:
            raise ValueError(f"reserve_ms {self.reserve_ms} leaves nothing of budget_ms {self.budget_ms}")
        return self

    @model_validator(mode="after")
    def _each_triton_is_an_address(self) -> Self:
        addresses.split(self.triton_url, "triton_url")
        addresses.only(self.torchserve_url, "torchserve_url")
        return self

    @property
    def tritons(self) -> tuple[str, ...]:
        """Addresses of Triton's gRPC; the first says which version counts."""
        return addresses.split(self.triton_url, "triton_url")

    @property
    def topics(self) -> Topics:
        """The topics by their roles."""
        return Topics(
            ticks=self.ticks_topic,
            decisions=self.decisions_topic,
            dead_letters=self.dead_letters_topic,
            snapshots=self.snapshots_topic,
            control=self.control_topic,
            orders=self.orders_topic,
            fills=self.fills_topic,
            scratch=self.scratch_topic,
            starts=self.starts_topic,
        )

    def limit_set(self, partitions: int, file: LimitsFile | None = None) -> LimitSet:
        """The limits of one partition's book, which gets its share of what is divided.

        Partitions are decided independently, so that each can be rebuilt from its own log; equal
        shares keep their sum within the account's limit without asking one another.
        """
        from trading.risk.limits import LimitSet

        return LimitSet(file, self.account, self.strategy, partitions)

    def policy(self, limits: LimitSet) -> DecisionPolicy:
        """How a target becomes an order."""
        from trading.decision.policy import DecisionPolicy

        return DecisionPolicy(limits, self.rebalance_band, self.execution == "assumed")

    def admission(self) -> Admission:
        """What is taken for a tick."""
        from trading.intake import Admission

        listed = frozenset(name.strip() for name in self.symbols.split(",") if name.strip())
        return Admission(listed, self.max_symbols)

    def pipeline(self) -> PipelineSettings:
        """What the pipeline needs."""
        from gateway.pipeline import PipelineSettings

        return PipelineSettings(
            budget_ns=int(self.budget_ms * MS),
            reserve_ns=int(self.reserve_ms * MS),
            # Of a short budget at most a half: a tick that has just come is not overload.
            shed_below_ns=int(min(self.shed_below_ms, self.budget_ms / 2) * MS),
            # A batch without a transaction costs little.
            gather_s=self.gather_ms / 1000 if self.delivery == "exactly-once" else 0.0,
            max_batch=self.max_batch,
            max_unpublished=self.max_unpublished,
            variant=self.variant,
            order_lifetime_ns=int(self.order_lifetime_ms * MS),
        )
