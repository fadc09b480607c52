"""Settings of our processes, from four places in one order: flags, the environment, the stack at home, defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from exporters.repository.state import journal_path
from gateway.settings import GatewaySettings
from services.data.settings import DataSettings
from services.experiments.settings import ExperimentsSettings
from services.forensics.settings import ForensicsSettings
from services.metrics.settings import MetricsSettings
from services.paper_broker.settings import BrokerSettings
from stack.servers.secrets import ensure_secret
from stack.servers.settings import INFERENCE_TOKEN, LOOPBACK, StackSettings, is_started, load
from trading.errors import ConfigurationError
from trading.keys import public_path
from trainers.orchestrator.settings import OrchestratorSettings

#: The file in the stack's folder of secrets that holds the desk's own token for the data service.
DATA_TOKEN = "data-token"  # noqa: S105 - a file's name

#: And for the orchestrator.
ORCHESTRATOR_TOKEN = "orchestrator-token"  # noqa: S105 - a file's name

S = TypeVar("S", bound=BaseSettings)


def resolve(kind: type[S], of_stack: Callable[[StackSettings], Mapping[str, Any]], given: Mapping[str, Any]) -> S:
    """The settings of a process.

    Args:
        kind: of settings; its prefix names the variables of the environment.
        of_stack: what a stack that was started says of them.
        given: by flags; None is not given.

    Raises:
        ConfigurationError: a value is refused; says which and why.
    """
    stack, prefix = load(), kind.model_config.get("env_prefix", "")
    told = of_stack(stack) if is_started(stack.absolute_home) else {}
    values = {name: value for name, value in told.items() if prefix + name.upper() not in os.environ}
    return made(kind, values | {name: value for name, value in given.items() if value is not None})


def made(kind: type[S], values: Mapping[str, Any]) -> S:
    """Settings of these values, the environment and the defaults. Raises ConfigurationError, without a secret."""
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if not name or is_secret(kind, name):
            # What was given holds secrets: the message must do.
            raise ConfigurationError(f"setting {name}: {first['msg']}" if name else first["msg"]) from None
        raise ConfigurationError(f"setting {name}: {first['msg']} (given: {first['input']!r})") from None
    except SettingsError as error:
        raise ConfigurationError(f"a {prefix}* variable is wrong: {error}") from None


def is_secret(kind: type[BaseSettings], name: str) -> bool:
    """Whether a setting's value must not be shown."""
    field = kind.model_fields.get(name.partition(".")[0])
    return field is not None and "Secret" in str(field.annotation)


def signing_key(stack: StackSettings) -> Path:
    """Of the trail, in the embedded stack."""
    return stack.absolute_home / "secrets" / "forensics-signing-key"


def gateway_settings(**given: Any) -> GatewaySettings:
    """Of a gateway."""

    def of_stack(stack: StackSettings) -> dict[str, Any]:
        return {
            "kafka_bootstrap": stack.kafka_bootstrap,
            "triton_url": stack.triton_grpc,
            **torchserve_of(stack, given),
            "redis_url": stack.redis_url,
            "metrics_port": stack.ports.gateway_metrics,
            "admin_token": ensure_secret(stack.absolute_home, "gateway-admin"),
            "rebinding_keys": (key,) if (key := public_path(signing_key(stack))).exists() else (),
        }

    return resolve(GatewaySettings, of_stack, given)


def torchserve_of(stack: StackSettings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Where the stack's own TorchServe is; its token is told to no other server that somebody names."""
    if "ULTRATHINK_GATEWAY_TORCHSERVE_URL" in os.environ or given.get("torchserve_url") is not None:
        return {}
    return {
        "torchserve_url": f"{LOOPBACK}:{stack.ports.torchserve_grpc}",
        "torchserve_token_file": stack.absolute_home / "secrets" / INFERENCE_TOKEN,
    }


def broker_settings(**given: Any) -> BrokerSettings:
    """Of the paper broker."""
    return resolve(
        BrokerSettings,
        lambda stack: {"kafka_bootstrap": stack.kafka_bootstrap, "metrics_port": stack.ports.broker_metrics},
        given,
    )


def metrics_settings(**given: Any) -> MetricsSettings:
    """Of what watches the servers."""

    def of_stack(stack: StackSettings) -> dict[str, Any]:
        return {
            "port": stack.ports.metrics,
            "kafka_bootstrap": stack.kafka_bootstrap,
            "postgres_url": stack.postgres_url("reader", "ultrathink"),
            "redis_url": stack.redis_url,
            "mlflow_uri": stack.mlflow_uri,
            "disk": stack.absolute_home,
        }

    return resolve(MetricsSettings, of_stack, given)


def experiments_settings(**given: Any) -> ExperimentsSettings:
    """Of what watches experiments."""

    def of_stack(stack: StackSettings) -> dict[str, Any]:
        return {
            "metrics_port": stack.ports.experiments_metrics,
            "folder": stack.absolute_home / "experiments",
            "repository": stack.model_repository,
            "mlflow_uri": stack.mlflow_uri,
        }

    return resolve(ExperimentsSettings, of_stack, given)


def orchestrator_settings(**given: Any) -> OrchestratorSettings:
    """Of the orchestrator."""

    def of_stack(stack: StackSettings) -> dict[str, Any]:
        metrics = f"http://{LOOPBACK}:{stack.ports.gateway_metrics}/metrics"
        return {
            "port": stack.ports.orchestrator,
            "token": ensure_secret(stack.absolute_home, ORCHESTRATOR_TOKEN),
            "postgres_url": stack.postgres_url("orchestrator"),
            "folder": stack.absolute_home / "orchestrator",
            "archive": stack.absolute_home / "archive",
            "desk_metrics": "" if stack.profile == "servers" else metrics,
        }

    return resolve(OrchestratorSettings, of_stack, given)


def data_settings(**given: Any) -> DataSettings:
    """Of the data service."""

    def of_stack(stack: StackSettings) -> dict[str, Any]:
        return {
            "port": stack.ports.data,
            "token": ensure_secret(stack.absolute_home, DATA_TOKEN),
            "tokens": stack.absolute_home / "secrets" / "data-tokens.json",
            "kafka_bootstrap": stack.kafka_bootstrap,
            "postgres_url": stack.postgres_url("reader", "ultrathink"),
            "redis_url": stack.redis_url,
            "archive": stack.absolute_home / "archive",
        }

    return resolve(DataSettings, of_stack, given)


def forensics_settings(**given: Any) -> ForensicsSettings:
    """Of the audit trail."""

    def of_stack(stack: StackSettings) -> dict[str, Any]:
        return {
            "kafka_bootstrap": stack.kafka_bootstrap,
            "postgres_url": stack.postgres_url("forensics", "ultrathink"),
            "owner_url": stack.postgres_url("ultrathink"),
            "reader_url": stack.postgres_url("reader", "ultrathink"),
            "signing_key": signing_key(stack),
            "checkpoints": stack.absolute_home / "trail",
            "ticks_archive": stack.absolute_home / "archive",
            "releases_journal": journal_path(stack.model_repository),
            "metrics_port": stack.ports.forensics_metrics,
        }

    return resolve(ForensicsSettings, of_stack, given)
