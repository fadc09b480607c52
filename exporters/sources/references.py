"""What a person names to be exported: a file, a folder, or a model that MLflow knows."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from connectors.mlflow_address import refuse_silent
from exporters.errors import ExportError
from exporters.formats.tensors import Arrays
from trading.models.rows import Rows
from trading.models.signature import TensorSpec

FLAVOURS = ("onnx", "pytorch", "sklearn", "xgboost", "lightgbm")
#: What a file of these suffixes is taken for.
FILES = {
    ".onnx": "onnx", ".pt": "pytorch", ".pth": "pytorch", ".pt2": "pytorch",
    ".skops": "sklearn", ".pkl": "sklearn", ".pickle": "sklearn", ".joblib": "sklearn",
    ".ubj": "xgboost", ".json": "xgboost", ".txt": "lightgbm", ".lgb": "lightgbm",
}  # fmt: skip
SERVED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*(?:-[A-Za-z0-9_.]+)*")


class Origin(Struct, frozen=True):
    """A downloaded model and what is recorded about it.

    Attributes:
        name: to serve it under.
        uri: "models:/NAME/3", "runs:/ID/model" or "file:...".
        run_id: MLflow's run, or "".
        flavour: one of FLAVOURS.
        artefact: the file to open.
        code: folder of modules that a pickle needs, or "".
        inputs, outputs: of the signature; empty where it has none.
        columns: names of the table that the one input is; empty where it is no table.
        model_class: that MLflow loads it as, or "".
        feature_version: of the kernel that it was trained on; None for a model that reads other rows.
        unnamed: whether nobody has named its inputs: a module's arguments do then.
        example: the logged input example, or None.
        guess: the logged input example of a model without a signature, which tells its inputs where nobody does.
        data_hash, git_commit: of the training, or "unknown".
    """

    name: str
    uri: str
    run_id: str
    flavour: str
    artefact: Path
    code: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    columns: tuple[str, ...] = ()
    unnamed: bool = False
    model_class: str = ""
    feature_version: int | None = None
    example: Arrays | None = None
    guess: Rows | None = None
    data_hash: str = "unknown"
    git_commit: str = "unknown"


def is_file(reference: str) -> bool:
    """Whether a reference names a file or folder rather than something in MLflow."""
    return not reference.startswith(("models:", "runs:")) and (
        Path(reference).exists()
        or reference.startswith(("/", "./", "../", "~"))
        or reference.endswith(tuple(FILES))
    )


def fetch(mlflow_uri: str, reference: str, folder: Path, name: str = "", alias: str = "") -> Origin:
    """Find a model, and download it where it is MLflow's; nothing of it is opened.

    Args:
        mlflow_uri: MLflow's address; not asked for a file.
        reference: NAME, NAME@ALIAS, NAME/VERSION, a models: or runs: URI, or a file or MLflow folder.
        folder: where to; private to us.
        name: to serve it under; default: its registered name, or the file's.
        alias: taken for a plain NAME; "" takes the newest version.

    Raises:
        ExportError: there is no such model, alias, version or file, or it has no flavour that we export.
        ServiceUnavailable: MLflow does not answer.
    """
    if is_file(reference):
        return from_path(Path(reference).expanduser(), name)
    refuse_silent(mlflow_uri)
    # MLflow takes longer to import than a file takes to export.
    from exporters.sources.registry import download

    return download(mlflow_uri, reference, folder, name, alias)


def served_name(name: str) -> str:
    """A name that is a folder and a URL's part. Raises ExportError for others."""
    if not SERVED_NAME.fullmatch(name):
        raise ExportError(
            f"{name!r} cannot be a served model's name: use letters, digits, _ . and -, or say --name"
        )
    return name


def from_path(path: Path, name: str) -> Origin:
    """A file or an MLflow folder on this machine."""
    if not path.exists():
        raise ExportError(f"{path} is no file")
    uri = f"file:{path.resolve()}"
    if path.is_dir():
        if not (path / "MLmodel").is_file():
            raise ExportError(
                f"{path} holds no MLmodel: name a model that MLflow has saved, or a file: {', '.join(FILES)}"
            )
        # MLflow takes longer to import than a file takes to export.
        from exporters.sources.registry import describe

        return describe(path, name=served_name(name or path.resolve().name), uri=uri, run_id="")
    if path.suffix not in FILES:
        raise ExportError(
            f"{path.name} is no model that is known by its suffix: expected {', '.join(FILES)}, an MLflow folder, "
            "or something that MLflow knows"
        )
    return Origin(served_name(name or path.stem), uri, "", FILES[path.suffix], path)
