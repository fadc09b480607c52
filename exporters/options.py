"""How to export, and what a conversion leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from exporters.formats.tensors import Arrays
from exporters.profiles import Container, Gpu
from exporters.repository.lineage import Lineage
from exporters.sources.opened import Format
from trading.models.signature import TensorSpec

Progress = Callable[[str], None]


class Options(Struct, frozen=True):
    """How to export.

    Attributes:
        mlflow_uri: MLflow's address.
        container: that must be able to read the file.
        gpu: that must be able to hold it.
        alias: taken for a plain NAME.
        name: to serve under; default: the registered one.
        variant: of the contract, served as NAME_VARIANT.
        format: "auto" takes the contract's backend, else ONNX, else TorchScript.
        precision: "fp32"; "fp16" for the weights of matrix products; "fp64" for rows and arithmetic in double;
            "int8" for weights and factors of matrix products, calibrated.
        tracer_warnings: texts of warnings of PyTorch's tracer that are known to be harmless.
        as_columns: serve a table as one input a column instead of as one matrix.
        inputs: of a model that has no signature, as a person declares them.
        sample: rows like the model's own, in a file; None takes those that were logged.
        calibrate: rows to calibrate int8 on, in a file; None takes those that were logged.
        max_batch: largest batch; default: the contract's, or 1024.
        trust: allow artefacts that can run their author's code.
        dry_run: do everything but publish.
    """

    mlflow_uri: str
    container: Container
    gpu: Gpu
    alias: str = ""
    name: str = ""
    variant: str = ""
    format: Format = "auto"
    precision: str = "fp32"
    max_batch: int | None = None
    trust: bool = False
    dry_run: bool = False
    inputs: tuple[TensorSpec, ...] = ()
    sample: Path | None = None
    calibrate: Path | None = None
    tracer_warnings: tuple[str, ...] = ()
    as_columns: bool = False


class Converted(Struct, frozen=True):
    """A model in its staging folder, proven equal to its source there."""

    lineage: Lineage
    folder: Path
    golden_in: Arrays
    golden_out: Arrays
