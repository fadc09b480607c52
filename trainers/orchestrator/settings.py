"""Settings of the orchestrator: ULTRATHINK_ORCHESTRATOR_* in the environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

if TYPE_CHECKING:
    from trainers.orchestrator.triggers import TriggerPolicy
    from trainers.orchestrator.yielding import YieldSettings


class OrchestratorSettings(BaseSettings):
    """Frozen."""

    model_config = SettingsConfigDict(env_prefix="ULTRATHINK_ORCHESTRATOR_", frozen=True, extra="forbid")

    postgres_url: SecretStr = Field(
        default=SecretStr("postgresql://orchestrator@localhost:5432/orchestrator"),
        description="its own database, which it owns",
    )
    host: str = Field(default="127.0.0.1", description="to listen on")
    port: int = Field(default=8030, ge=0, le=65535)
    token: SecretStr = Field(default=SecretStr(""), description="who has it may ask and command; empty: nobody may")
    folder: Path = Field(default=Path(".ultrathink/orchestrator"), description="of what steps print")
    executor: Literal["local", "kubernetes"] = Field(
        default="local", description="where steps run: processes of this machine, or Jobs of the cluster"
    )
    memory_mb: int = Field(
        default=0, ge=0, description="that steps may take together; 0: six tenths of what is free at the start"
    )
    gpu_memory_mb: int = Field(default=0, ge=0, description="of the GPU that steps may take together")
    at_once: int = Field(default=2, ge=1, le=256, description="steps at once; those that look on are not counted")
    nice: int = Field(default=10, ge=0, le=19)
    step_nice: int = Field(default=19, ge=0, le=19, description="of steps that yield to the desk")
    desk_metrics: str = Field(
        default="", description="address of a gateway's metrics, whose p99 steps yield to; empty: none"
    )
    most_p99_ms: float = Field(default=50.0, gt=0, description="p99 of the desk above which training stands still")
    most_p99_ratio: float = Field(default=1.25, gt=1, description="of the desk's p99 with training to that without")
    cool_down: str = Field(default="1h", description="between two runs that the same trigger begins")
    quiet: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="hours in which nothing begins by itself: 22:00-06:00,12:00-13:00"
    )
    tz: str = Field(default="UTC", description="of the quiet hours, and of a day")
    most_a_day: int = Field(default=8, ge=0, le=10_000, description="runs that begin by themselves")
    most_false: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="runs of a trigger that came to nothing in a week; then it begins none",
    )
    archive: Path | None = Field(default=None, description="folder that the data service writes")
    data_ticks: int = Field(default=0, ge=0, description="after so many new ticks a cycle begins; 0: never")
    cycle: Path | None = Field(default=None, description="YAML of what a cycle that begins by itself is to do")
    check_ticks: int = Field(
        default=0, ge=0, description="after so many new ticks it is looked whether anything has changed; 0: never"
    )
    check: Path | None = Field(default=None, description="YAML of how that is looked for")
    update: Path | None = Field(default=None, description="YAML of what an update that begins by itself is to do")
    on_drift: Literal["nothing", "update", "cycle"] = Field(
        default="nothing", description="what begins where features or regimes have changed"
    )
    on_decay: Literal["nothing", "update", "cycle"] = Field(
        default="nothing", description="what begins where signals foretell less, or targets earn less"
    )
    keep_days: float = Field(
        default=30.0, gt=0, description="that runs stay; what serves, or served, stays for ever"
    )
    keep_best: int = Field(default=10, ge=0, description="trainings with the highest score that stay besides")
    job_template: Path | None = Field(
        default=None, description="YAML of the Kubernetes Job that a step becomes; None: no Jobs"
    )

    @field_validator("quiet", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        """Of a text what stands between its commas; one that begins as a list of JSON is that."""
        if not isinstance(given, str):
            return given
        if given.lstrip().startswith("["):
            return json.loads(given)
        return tuple(one.strip() for one in given.split(",") if one.strip())

    def policy(self) -> TriggerPolicy:
        """What bounds runs that begin by themselves. Raises ConfigurationError."""
        # Every role reads settings, also one that has no orchestrator's libraries.
        from trainers.orchestrator.triggers import TriggerPolicy

        made = TriggerPolicy(
            cool_down=self.cool_down, quiet=self.quiet, tz=self.tz, most_a_day=self.most_a_day,
            most_false=self.most_false,
        )  # fmt: skip
        made.check()
        return made

    def yielding(self) -> YieldSettings:
        """When training stands still."""
        from trainers.orchestrator.yielding import YieldSettings

        return YieldSettings(most_ms=self.most_p99_ms, most_ratio=self.most_p99_ratio)
