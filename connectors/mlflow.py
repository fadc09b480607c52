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

from connectors.mlflow_address import unanswered
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
TRACKING, REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"


def use(uri: str) -> None:
    """From now on this process talks to this server; nothing is asked of it yet.

    MLFLOW_REGISTRY_URI names another server of versions where MLFLOW_TRACKING_URI names this one; credentials are
    read from their variables by MLflow itself.
    """
    logging.getLogger("alembic").setLevel(logging.ERROR)
    told = {name: os.environ.get(name) for name in (TRACKING, REGISTRY)}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri((told[TRACKING] == uri and told[REGISTRY]) or uri)
    for name, value in told.items():
        # MLflow writes what it was told into variables, which commands that are started later take for a person's.
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def brief(error: BaseException) -> str:
    """What was said, in one line of bounded length."""
    return " ".join(str(error).split())[:LONGEST]


def silent(uri: str, error: BaseException) -> ServiceUnavailable:
    """The tracking server does not answer."""
    return unanswered(uri, brief(error))
