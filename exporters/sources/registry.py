"""MLflow as the exporters see it: find a model, download it, read what was logged with it, log evidence back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

# MLflow reads it when it is imported.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")

import numpy as np
from msgspec.structs import replace

from connectors.mlflow import MlflowClient, MlflowException, Model, brief, mlflow, silent, use
from exporters.errors import ExportError
from exporters.formats.tensors import Arrays, dtype_of, triton_name
from exporters.sources.references import FLAVOURS, Origin, served_name
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.models.rows import Rows, checked
from trading.models.signature import TensorSpec


def connect(uri: str) -> MlflowClient:
    """Raises ServiceUnavailable when MLflow does not answer."""
    use(uri)
    client = MlflowClient()
    try:
        client.search_registered_models(max_results=1)
    except (MlflowException, OSError) as error:
        raise silent(uri, error) from error
    return client


def param_of_run(client: MlflowClient, run_id: str, name: str) -> str:
    """A parameter of a run; "" where the run is gone, or has none of that name. Raises ServiceUnavailable."""
    return _of_run(client, run_id, "params", name)


def tag_of_run(client: MlflowClient, run_id: str, name: str) -> str:
    """A tag of a run; "" where the run is gone, or has none of that name. Raises ServiceUnavailable."""
    return _of_run(client, run_id, "tags", name)


def _of_run(client: MlflowClient, run_id: str, what: str, name: str) -> str:
    try:
        return str(getattr(client.get_run(run_id).data, what).get(name, ""))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return ""
        raise ServiceUnavailable(f"MLflow does not tell of run {run_id}: {brief(error)}") from error


def download(mlflow_uri: str, reference: str, folder: Path, name: str = "", alias: str = "") -> Origin:
    """As `references.fetch`, of what is no file. Raises ExportError or ServiceUnavailable."""
    client = connect(mlflow_uri)
    try:
        uri, run_id, registered = resolve(client, reference, alias)
        path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=os.fspath(folder)))
        run = client.get_run(run_id) if run_id else None
    except MlflowException as error:
        raise ExportError(f"{reference} cannot be fetched from {mlflow_uri}: {brief(error)}") from error
    params, tags = (run.data.params, run.data.tags) if run else ({}, {})
    return describe(
        path,
        name=served_name(name or registered),
        uri=uri,
        run_id=run_id,
        data_hash=params.get("data_hash", "unknown"),
        git_commit=tags.get("git_commit", tags.get("mlflow.source.git.commit", "unknown")),
    )


def resolve(client: MlflowClient, reference: str, alias: str) -> tuple[str, str, str]:
    """URI with a fixed version, run id and registered name of a reference."""
    if reference.startswith("runs:"):
        run_id, _, path = reference.removeprefix("runs:").strip("/").partition("/")
        client.get_run(run_id)
        return f"runs:/{run_id}/{path or 'model'}", run_id, path.replace("/", "_") or "model"
    if reference.startswith("models:/m-"):
        logged = client.get_logged_model(reference.removeprefix("models:/"))
        return reference, str(logged.source_run_id or ""), str(logged.name)
    plain = reference.removeprefix("models:").strip("/")
    name, at, given = plain.partition("@")
    number = ""
    if not at:
        name, _, number = plain.partition("/")
    found = find_version(client, name, given or ("" if number else alias), number)
    return f"models:/{name}/{found.version}", str(found.run_id or ""), name


def find_version(client: MlflowClient, name: str, alias: str, number: str) -> Any:
    """A registered version. Raises ExportError that lists what there is."""
    versions = client.search_model_versions(f"name='{escaped(name)}'")
    if not versions:
        known = sorted(m.name for m in client.search_registered_models())
        raise ExportError(
            f"no model {name!r} is registered: there is {', '.join(known) or 'none at all'}. "
            "Register one, or train with `ultrathink train all`"
        )
    if alias:
        aliases = client.get_registered_model(name).aliases
        if alias not in aliases:
            told = ", ".join(f"{a} (version {v})" for a, v in sorted(aliases.items())) or "none"
            raise ExportError(f"{name} has no alias {alias!r}; its aliases: {told}")
        number = str(aliases[alias])
    by_number = {str(v.version): v for v in versions}
    number = number or max(by_number, key=int)
    if number not in by_number:
        raise ExportError(
            f"{name} has no version {number!r}; its versions: {', '.join(sorted(by_number, key=int))}"
        )
    return by_number[number]


def escaped(name: str) -> str:
    """For a filter string."""
    if "'" in name:
        raise ExportError(f"{name!r} is no model's name")
    return name


def describe(
    path: Path, *, name: str, uri: str, run_id: str, data_hash: str = "unknown", git_commit: str = "unknown"
) -> Origin:
    """Read MLmodel."""
    described = Model.load(path)
    flavour = next((f for f in FLAVOURS if f in described.flavors), None)
    if flavour is None:
        kinds = ", ".join(sorted(described.flavors)) or "none"
        raise ExportError(f"{name} has the flavours {kinds}; we export {', '.join(FLAVOURS)}")
    settings = described.flavors[flavour]
    version = (described.metadata or {}).get("feature_version")
    return Origin(
        name=name,
        uri=uri,
        run_id=run_id,
        flavour=flavour,
        artefact=artefact(path, flavour, settings),
        code=code(path, settings),
        inputs=specs(described.signature.inputs, "input", name) if described.signature else (),
        outputs=outputs(described, name),
        columns=columns(described),
        unnamed=described.signature is not None and not has_names(described.signature.inputs),
        model_class=str(settings.get("model_class") or ""),
        feature_version=int(version) if version is not None else None,
        example=example(path, described),
        guess=rows_of_example(path, described) if described.signature is None else None,
        data_hash=data_hash,
        git_commit=git_commit,
    )


def has_names(schema: Any) -> bool:
    """Whether a schema names its tensors; a table's names are its columns'."""
    return bool(schema.is_tensor_spec() and schema.has_input_names())


def artefact(path: Path, flavour: str, settings: dict[str, Any]) -> Path:
    """The file that holds the model. Raises ExportError when it is absent."""
    if flavour == "pytorch":
        folder = path / settings["model_data"]
        found = next((folder / n for n in ("model.pt2", "model.pth") if (folder / n).is_file()), folder)
    else:
        found = path / str(settings.get("data") or settings.get("pickled_model"))
    if not found.is_file() or not found.resolve().is_relative_to(path.resolve()):
        raise ExportError(f"{found} is no file, although MLmodel says so: log the model again")
    return found


def code(path: Path, settings: dict[str, Any]) -> str:
    """The folder of modules that were logged beside a pickle, or "". Raises ExportError where it lies elsewhere."""
    if not settings.get("code"):
        return ""
    folder = (path / str(settings["code"])).resolve()
    if not folder.is_dir() or not folder.is_relative_to(path.resolve()):
        raise ExportError(f"{folder} is no folder of {path}, although MLmodel says so: log the model again")
    return os.fspath(folder)


def specs(schema: Any, fallback: str, model: str) -> tuple[TensorSpec, ...]:
    """Tensors of an MLflow schema; a table of numeric columns is one float32 matrix."""
    if schema is None:
        return ()
    if not schema.is_tensor_spec():
        columns = schema.inputs
        for k, column in enumerate(columns):
            if not hasattr(column.type, "to_numpy"):
                raise ExportError(
                    f"{model}: column {column.name or str(k)!r} is {column.type}, and a column is one number here: "
                    "log it with signature=infer_signature(an array of [rows, numbers], its answers)"
                )
        words = [c.name or str(k) for k, c in enumerate(columns) if c.type.to_numpy().kind not in "biuf"]
        if words:
            raise ExportError(f"{model}: column {words[0]!r} is no number: encode it before the model")
        return (TensorSpec(fallback, (len(columns),)),)
    found = []
    for k, tensor in enumerate(schema.inputs):
        name = tensor.name or (fallback if len(schema.inputs) == 1 else f"{fallback}_{k}")
        batch, *dims = tensor.shape or (-1,)
        if batch != -1:
            raise ExportError(f"{model}: the batch axis of {name} is fixed at {batch}: log the signature with -1")
        if -1 in dims:
            raise ExportError(f"{model}: {name} has shape {list(tensor.shape)}; only its first axis may be free")
        found.append(TensorSpec(name, tuple(int(d) for d in dims) or (1,), triton_name(tensor.type, name)))
    return tuple(found)


def columns(described: Model) -> tuple[str, ...]:
    """Names of a table's columns, where its signature has them."""
    schema = described.signature.inputs if described.signature else None
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return ()
    return tuple(str(name) for name in schema.input_names())


def outputs(described: Model, model: str) -> tuple[TensorSpec, ...]:
    """Of the signature; none where it has none, or where a classifier answers with words."""
    schema = described.signature.outputs if described.signature else None
    if schema is None or not all(is_number(t) for t in schema.input_types()):
        return ()
    return specs(schema, "output", model)


def is_number(kind: Any) -> bool:
    """Whether a schema's type, of a column or a tensor, is one of numbers."""
    found = kind.to_numpy() if hasattr(kind, "to_numpy") else kind
    return isinstance(found, np.dtype) and found.kind in "biuf"


def example(path: Path, described: Model) -> Arrays | None:
    """The logged input example as arrays, where it is one of numbers; a table in float64."""
    info = described.saved_input_example_info or {}
    file = path / str(info.get("artifact_path", "absent"))
    if not file.is_file() or not file.resolve().is_relative_to(path.resolve()) or described.signature is None:
        return None
    wanted = specs(described.signature.inputs, "input", "example")
    try:
        stored = json.loads(file.read_text())
        if isinstance(stored, dict):
            values = [stored["data"]] if "data" in stored else [stored[t.name] for t in wanted]
        else:
            values = [stored]
        # A table's numbers as they were logged: what is lost of them in float32 is seen later.
        is_table = not described.signature.inputs.is_tensor_spec()
        kinds = [np.dtype(np.float64) if is_table else dtype_of(t) for t in wanted]
        return [np.asarray(v, kind).reshape(-1, *t.dims) for t, v, kind in zip(wanted, values, kinds, strict=True)]
    except (ValueError, KeyError, TypeError):
        return None


def rows_of_example(path: Path, described: Model) -> Rows | None:
    """The input example of a model that has no signature; None where it has none of numbers."""
    info = described.saved_input_example_info or {}
    file = path / str(info.get("artifact_path", "absent"))
    if not file.is_file() or not file.resolve().is_relative_to(path.resolve()):
        return None
    try:
        stored = json.loads(file.read_text())
        # What MLflow serves is asked so, and what pandas writes.
        values = stored.get("inputs", stored.get("data", stored)) if isinstance(stored, dict) else stored
        named = values if isinstance(values, dict) else {"": values}
        columns = tuple(map(str, stored.get("columns", ()))) if isinstance(stored, dict) else ()
        return replace(checked(file, {name: np.asarray(value) for name, value in named.items()}), columns=columns)
    except (ValueError, TypeError, ConfigurationError):
        return None


def log_evidence(mlflow_uri: str, run_id: str, folder: Path, metrics: dict[str, float]) -> None:
    """Log files and figures back to the model's run. Raises ServiceUnavailable."""
    client = connect(mlflow_uri)
    try:
        client.log_artifacts(run_id, os.fspath(folder), "verify")
        for key, value in metrics.items():
            client.log_metric(run_id, key, value)
    except MlflowException as error:
        raise ServiceUnavailable(f"MLflow did not take the evidence for run {run_id}: {brief(error)}") from error


def attach_evidence(mlflow_uri: str, run_id: str, folder: Path, place: str, tags: dict[str, str]) -> None:
    """Attach files to a model's run, under `place`, and tags to its versions. Raises ServiceUnavailable."""
    client = connect(mlflow_uri)
    try:
        client.log_artifacts(run_id, os.fspath(folder), place)
        for version in client.search_model_versions(f"run_id='{run_id}'"):
            for name, value in tags.items():
                client.set_model_version_tag(version.name, version.version, name, value)
    except MlflowException as error:
        raise ServiceUnavailable(f"MLflow did not take what run {run_id} was to get: {brief(error)}") from error
