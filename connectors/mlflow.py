"""MLflow: its client and types, how it is quieted, and what it raises in one line."""

from __future__ import annotations

import logging
import os

# MLflow reads these when it is imported, and sets its loggers anew with every part of it.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec

from trading.errors import ServiceUnavailable

__all__ = [
    "MetaDataset",
    "MlflowClient",
    "MlflowException",
    "Model",
    "ModelSignature",
    "Schema",
    "TensorSpec",
    "brief",
    "mlflow",
    "resolve_dataset_source",
    "silent",
    "use",
]
LONGEST = 300


def use(uri: str) -> None:
    """From now on this process talks to this server; nothing is asked of it yet."""
    logging.getLogger("alembic").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)


def brief(error: BaseException) -> str:
    """What was said, in one line of bounded length."""
    return " ".join(str(error).split())[:LONGEST]


def silent(uri: str, error: BaseException) -> ServiceUnavailable:
    """The tracking server does not answer."""
    return ServiceUnavailable(
        f"MLflow at {uri} does not answer: start it with `ultrathink stack up`, or name another with "
        f"--mlflow-uri ({brief(error)})"
    )
