"""The only file of the exporters that imports mlflow: fetch a registered model and its contract."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

# MLflow reads it when it is imported.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")

import mlflow
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from msgspec import Struct

from exporters.errors import ExportError
from gateway.domain.errors import ServiceUnavailable
from gateway.domain.signature import ModelSignature


class SourceModel(Struct, frozen=True):
    """A registered model version, downloaded and opened."""

    signature: ModelSignature
    version: str
    run_id: str
    module: torch.jit.ScriptModule
    data_hash: str
    git_commit: str


def connect(uri: str) -> MlflowClient:
    """Raises ServiceUnavailable when MLflow does not answer."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    try:
        client.search_registered_models(max_results=1)
    except MlflowException as error:
        raise ServiceUnavailable(
            f"MLflow at {uri} does not answer: start it with `ultrathink stack up`, or name another "
            f"with --mlflow-uri ({str(error)[:200]})"
        ) from error
    return client


def fetch(client: MlflowClient, signature: ModelSignature, alias: str, folder: Path) -> SourceModel:
    """Download a model by its alias and open it without unpickling anything.

    Raises:
        ExportError: no such model or alias, an artefact that is not TorchScript, or a feature
            version or tensor names other than the signature's.
    """
    name = signature.name
    try:
        found = client.get_model_version_by_alias(name, alias)
        path = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{found.version}", dst_path=str(folder)))
        run = client.get_run(str(found.run_id))
    except MlflowException as error:
        raise ExportError(
            f"model {name!r} with alias {alias!r} cannot be fetched: {str(error)[:200]}. "
            "Train first: `ultrathink train all`"
        ) from error
    described = Model.load(path)
    check_contract(signature, described)
    return SourceModel(
        signature=signature,
        version=str(found.version),
        run_id=str(found.run_id),
        module=open_torchscript(path / "data" / "model.pth", name),
        data_hash=run.data.params.get("data_hash", "unknown"),
        git_commit=run.data.tags.get("git_commit", "unknown"),
    )


def check_contract(signature: ModelSignature, described: Model) -> None:
    """Compare MLflow's signature and metadata with ours."""
    version = (described.metadata or {}).get("feature_version")
    if version != signature.feature_version:
        raise ExportError(
            f"{signature.name} was trained on feature version {version}, the gateway computes "
            f"version {signature.feature_version}: train it again"
        )
    if described.signature is None:
        raise ExportError(f"{signature.name} has no MLflow signature: train it again")
    for side in ("inputs", "outputs"):
        wanted = [(t.name, (-1, *t.dims)) for t in getattr(signature, side)]
        schema = getattr(described.signature, side)
        got = [(t.name, tuple(t.shape)) for t in schema.inputs] if schema else []
        if wanted != got:
            raise ExportError(f"{signature.name}: {side} are {got}, the signature says {wanted}")


def open_torchscript(path: Path, name: str) -> torch.jit.ScriptModule:
    """Load TorchScript. Any other archive may hold a pickle, and is refused unread."""
    try:
        with zipfile.ZipFile(path) as archive:
            scripted = any("/code/" in member for member in archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise ExportError(f"{name}: {path} is no TorchScript archive: {error}") from error
    if not scripted:
        raise ExportError(f"{name}: {path.name} is a pickle, not TorchScript: log torch.jit.trace(model)")
    module: torch.jit.ScriptModule = torch.jit.load(os.fspath(path), map_location="cpu")
    for key, tensor in module.state_dict().items():
        # inf is how a constant feature is divided away; NaN is never meant.
        if torch.isnan(tensor).any():
            raise ExportError(f"{name}: weight {key} holds NaN: train it again")
    return module.eval()
