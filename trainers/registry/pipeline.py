"""A pipeline's networks as MLflow keeps them: read without unpickling anything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from connectors.mlflow import MlflowException, brief, mlflow
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.models.signature import REGIME_DETECTION
from trainers.online.networks import Networks, from_states
from trainers.registry import champions
from trainers.registry.champions import Candidate

#: Where MLflow's PyTorch flavour puts a module, below a model's folder.
PLACES = ("data/model.pth", "data/model.pt2", "data/model.pt")


def open_pipeline(versions: Mapping[str, str]) -> Networks:
    """The networks of registered versions, by model.

    Raises:
        ConfigurationError: one is not there any more, or of another network than this version trains.
        ServiceUnavailable: MLflow does not answer.
    """
    found = {name: champions.known(name, version) for name, version in versions.items()}
    if REGIME_DETECTION.name not in found:
        raise ConfigurationError(
            f"{', '.join(found) or 'nothing'} is no pipeline: {REGIME_DETECTION.name} is missing"
        )
    teacher = champions.teacher_of(found[REGIME_DETECTION.name])
    return from_states({name: weights(one) for name, one in found.items()}, teacher)


def weights(version: Candidate) -> dict[str, Tensor]:
    """Of its module, by name. Raises ConfigurationError where it has none that can be read; ServiceUnavailable."""
    named = f"{version.name} {version.version}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            told = mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}", dst_path=folder)
        except (MlflowException, OSError) as error:
            raise ServiceUnavailable(f"MLflow does not give {named}: {brief(error)}") from error
        path = next((Path(told) / place for place in PLACES if (Path(told) / place).is_file()), None)
        if path is None:
            raise ConfigurationError(f"{named} holds no {' or '.join(PLACES)}: it was not trained by this project")
        try:
            # TorchScript: a program for torch's interpreter, and no pickle.
            module = torch.jit.load(os.fspath(path), map_location="cpu")
        except (RuntimeError, ValueError) as error:
            raise ConfigurationError(f"{named} is no TorchScript: {brief(error)}") from error
        return {key: value.clone() for key, value in module.state_dict().items()}
