"""MLflow as the trainers see it: a run a training, one within it for each model, registered as challenger."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from msgspec import Struct

from connectors.mlflow import (
    MetaDataset,
    MlflowClient,
    MlflowException,
    Schema,
    TensorSpec,
    mlflow,
    resolve_dataset_source,
)
from connectors.mlflow import ModelSignature as MlflowSignature
from trading.errors import ServiceUnavailable
from trading.features.definitions import FEATURE_VERSION
from trading.models.signature import ModelSignature
from trainers.code_version import git_commit
from trainers.data.manifest import Manifest
from trainers.registry.aliases import CHALLENGER, log_lost
from trainers.walk_forward import TrainedModel

#: MLflow refuses longer texts.
MOST_DESCRIPTION = 4_800
MOST_PARAMETER = 500


class RowsDataset(MetaDataset):
    """MLflow wants a profile of a dataset; ours is in dataset.json."""

    @property
    def profile(self) -> None:
        """None."""


class Logged(Struct, frozen=True):
    """Where a trained model lies in MLflow."""

    name: str
    version: str
    run_id: str


@contextmanager
def training(name: str, manifest: Manifest, folder: str, run_id: str | None = None) -> Iterator[str]:
    """A run for a whole training: system metrics while it lasts, the dataset as its input; yields its id.

    Args:
        name: of the run.
        manifest: of the dataset.
        folder: where the dataset lies.
        run_id: of a run that a killed training left open.

    Raises:
        ServiceUnavailable: MLflow refused or went away.
    """
    try:
        run = mlflow.start_run(run_id=run_id, run_name=None if run_id else name, log_system_metrics=True)
    except MlflowException as error:
        if run_id is None:
            raise ServiceUnavailable(f"MLflow did not open a run: {str(error)[:300]}") from error
        run = mlflow.start_run(run_name=name, log_system_metrics=True)  # the old one is gone
    status = "FAILED"
    try:
        try:
            mlflow.set_tags(
                {"feature_version": str(FEATURE_VERSION), "git_commit": git_commit(), "kind": "training"}
            )
            mlflow.log_input(as_dataset(manifest, folder), context="training")
            mlflow.log_dict(json.loads(json.dumps(plain_manifest(manifest))), "dataset.json")
        except MlflowException as error:
            raise ServiceUnavailable(f"MLflow did not take the dataset: {str(error)[:300]}") from error
        yield run.info.run_id
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        try:
            mlflow.end_run(status)
        except MlflowException as error:
            # What ended the training is what must be told.
            log_lost("the end of the run", error)


def plain_manifest(manifest: Manifest) -> dict[str, Any]:
    """The manifest without what names every symbol."""
    names = ("data_hash", "dataset_hash", "feature_version", "bars", "horizon_ns", "ticks", "rows", "labelled",
             "left_out", "first_ns", "last_ns", "created", "code")  # fmt: skip
    return {name: getattr(manifest, name) for name in names} | {"sources": manifest.named}


def as_dataset(manifest: Manifest, folder: str) -> RowsDataset:
    """The dataset as MLflow names one: its digest is that of the rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = resolve_dataset_source(folder)
    return RowsDataset(source, name=manifest.named[:500], digest=manifest.dataset_hash[:36])


def log(model: TrainedModel, manifest: Manifest, tags: Mapping[str, str]) -> Logged:
    """Log a model's run within the training's, register it and give the new version the alias `challenger`.

    Args:
        model: the model and its evidence.
        manifest: what it learned from.
        tags: of run and version.

    Raises:
        ServiceUnavailable: MLflow refused or went away.
    """
    try:
        return _log(model, manifest, tags)
    except MlflowException as error:
        name = model.signature.name
        raise ServiceUnavailable(f"MLflow did not take {name}: {str(error)[:300]}") from error


def _log(model: TrainedModel, manifest: Manifest, more: Mapping[str, str]) -> Logged:
    signature = model.signature
    tags = {"feature_version": str(FEATURE_VERSION), "git_commit": git_commit(), "data_hash": manifest.data_hash,
            "dataset_hash": manifest.dataset_hash, **more}  # fmt: skip
    with mlflow.start_run(run_name=signature.name, tags=tags, nested=True, log_system_metrics=False) as run:
        data = {"data_source": manifest.named[:MOST_PARAMETER], "data_hash": manifest.data_hash,
                "data_rows": manifest.rows, "horizon_ns": manifest.horizon_ns,
                "device": "cuda" if torch.cuda.is_available() else "cpu"}  # fmt: skip
        mlflow.log_params({**model.parameters, **data})
        mlflow.log_metrics(dict(model.metrics))
        for name, values in (("loss", model.fitted.losses), ("validation_loss", model.fitted.validation)):
            for epoch, loss in enumerate(values):
                mlflow.log_metric(name, loss, step=epoch)
        mlflow.log_metric("best_epoch", model.fitted.best_epoch)
        log_files(model.pictures, model.texts)
        info = log_model(model)
        # By the client: mlflow's own shorthand prints to the terminal.
        client = MlflowClient()
        try:
            client.create_registered_model(signature.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = client.create_model_version(
            signature.name, info.model_uri, run_id=run.info.run_id, model_id=info.model_id, tags=tags,
            description=model.texts["model_card.md"][:MOST_DESCRIPTION],
        )  # fmt: skip
        client.set_registered_model_alias(signature.name, CHALLENGER, version.version)
        return Logged(signature.name, str(version.version), run.info.run_id)


def log_files(pictures: Mapping[str, Figure], texts: Mapping[str, str]) -> None:
    """Pictures under plots/, texts at the top."""
    with tempfile.TemporaryDirectory() as folder:
        for name, figure in pictures.items():
            path = Path(folder) / f"{name}.png"
            figure.savefig(path, dpi=110)
            mlflow.log_artifact(os.fspath(path), "plots")
    for name, text in texts.items():
        mlflow.log_text(text, name)


def log_model(model: TrainedModel) -> Any:
    """The model as MLflow keeps it, with its signature and an example."""
    signature, generator = model.signature, np.random.default_rng(0)
    example = {t.name: generator.normal(size=(2, *t.dims)).astype(np.float32) for t in signature.inputs}
    with warnings.catch_warnings():
        # MLflow warns of its own deprecated calls.
        warnings.simplefilter("ignore")
        return mlflow.pytorch.log_model(
            model.module,
            name="model",
            signature=mlflow_signature(signature),
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
            serialization_format="pickle",  # a ScriptModule is saved by torch.jit.save all the same
            input_example=example,
            metadata={"feature_version": FEATURE_VERSION, "outputs": [o.name for o in signature.outputs]},
        )


def log_summary(parameters: Mapping[str, str | int | float], metrics: Mapping[str, float], sheet: str) -> None:
    """The training's own parameters, metrics and tear sheet, in its run."""
    try:
        mlflow.log_params(dict(parameters))
        mlflow.log_metrics(dict(metrics))
        mlflow.log_text(sheet, "tear_sheet.html")
    except MlflowException as error:
        raise ServiceUnavailable(f"MLflow did not take the evaluation: {str(error)[:300]}") from error


def log_step(name: str, value: float, step: int) -> None:
    """A metric of the open run, as a training goes; losing one is no reason to stop."""
    try:
        mlflow.log_metric(name, value, step=step)
    except MlflowException as error:
        log_lost(f"{name} at step {step}", error)


def log_trial(
    parent: str, name: str, parameters: Mapping[str, str | int | float], metrics: Mapping[str, float]
) -> None:
    """A run within the run `parent`, for one experiment; from any thread. Losing one is no reason to stop."""
    try:
        with mlflow.start_run(
            run_name=name, nested=True, parent_run_id=parent, tags={"kind": "trial"}, log_system_metrics=False
        ):
            mlflow.log_params(dict(parameters))
            mlflow.log_metrics(dict(metrics))
    except MlflowException as error:
        log_lost(name, error)


def mlflow_signature(signature: ModelSignature) -> MlflowSignature:
    """The same contract in MLflow's words."""

    def schema(tensors: tuple[object, ...]) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), (-1, *t.dims), t.name) for t in tensors])  # type: ignore[attr-defined]

    return MlflowSignature(inputs=schema(signature.inputs), outputs=schema(signature.outputs))
