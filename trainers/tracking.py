"""The only file of the trainers that imports mlflow: one run a model, registered as challenger."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

# MLflow reads it when it is imported, and sets its loggers anew with every part of it.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models.signature import ModelSignature as MlflowSignature
from mlflow.types import Schema, TensorSpec
from msgspec import Struct

from gateway.domain.errors import ServiceUnavailable
from gateway.domain.features import FEATURE_VERSION
from gateway.domain.signature import ModelSignature

EXPERIMENT = "ultrathink"
ALIAS = "challenger"


class Logged(Struct, frozen=True):
    """Where a trained model lies in MLflow."""

    name: str
    version: str
    run_id: str


class TrainedModel(Struct, frozen=True):
    """What a run logs. `module` is TorchScript: complete in itself, and no pickle."""

    signature: ModelSignature
    module: torch.jit.ScriptModule
    parameters: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    losses: list[float]
    picture: Figure


def connect(uri: str) -> None:
    """Point MLflow at a server. Raises ServiceUnavailable when it does not answer."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("alembic").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    try:
        mlflow.set_experiment(EXPERIMENT)
    except MlflowException as error:
        raise ServiceUnavailable(
            f"MLflow at {uri} does not answer: start it with `ultrathink stack up`, or name another "
            f"with --mlflow-uri ({str(error)[:200]})"
        ) from error


def log(model: TrainedModel, data: Mapping[str, str | int]) -> Logged:
    """Log a run, register its model and give the new version the alias `challenger`.

    Args:
        model: the model and its evidence.
        data: what it learned from: source, hash, rows.

    Raises:
        ServiceUnavailable: MLflow refused or went away.
    """
    try:
        return _log(model, data)
    except MlflowException as error:
        name = model.signature.name
        raise ServiceUnavailable(f"MLflow did not take {name}: {str(error)[:300]}") from error


def _log(model: TrainedModel, data: Mapping[str, str | int]) -> Logged:
    signature = model.signature
    tags = {"feature_version": str(FEATURE_VERSION), "git_commit": git_commit()}
    with mlflow.start_run(run_name=signature.name, tags=tags) as run:
        mlflow.log_params({**model.parameters, **{f"data_{k}": v for k, v in data.items()}})
        mlflow.log_metrics(dict(model.metrics))
        for epoch, loss in enumerate(model.losses):
            mlflow.log_metric("loss", loss, step=epoch)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{signature.name}.png"
            model.picture.savefig(path, dpi=110)
            mlflow.log_artifact(os.fspath(path), "plots")
        with warnings.catch_warnings():
            # MLflow warns of its own deprecated calls.
            warnings.simplefilter("ignore")
            info = mlflow.pytorch.log_model(
                model.module,
                name="model",
                signature=mlflow_signature(signature),
                pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
                serialization_format="pickle",  # a ScriptModule is saved by torch.jit.save all the same
                metadata={"feature_version": FEATURE_VERSION, "outputs": [o.name for o in signature.outputs]},
            )
        # By the client: mlflow's own shorthand prints to the terminal.
        client = MlflowClient()
        try:
            client.create_registered_model(signature.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = client.create_model_version(
            signature.name, info.model_uri, run_id=run.info.run_id, model_id=info.model_id
        )
        client.set_registered_model_alias(signature.name, ALIAS, version.version)
        return Logged(signature.name, str(version.version), run.info.run_id)


def mlflow_signature(signature: ModelSignature) -> MlflowSignature:
    """The same contract in MLflow's words."""

    def schema(tensors: tuple[object, ...]) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), (-1, *t.dims), t.name) for t in tensors])  # type: ignore[attr-defined]

    return MlflowSignature(inputs=schema(signature.inputs), outputs=schema(signature.outputs))


def git_commit() -> str:
    """The code that trained; "unknown" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
