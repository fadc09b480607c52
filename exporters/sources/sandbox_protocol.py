"""What is asked of the process in which an artefact is opened, and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from msgspec import Struct

from exporters.formats.tensors import Arrays
from trading.models.signature import TensorSpec


class Request(Struct, frozen=True):
    """One of open, known, convert, predict; unused fields are empty."""

    op: str
    flavour: str = ""
    artefact: str = ""
    trust: bool = False
    code: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    columns: tuple[str, ...] = ()
    unnamed: bool = False
    model_class: str = ""
    is_double: bool = False
    as_columns: bool = False
    example: str = ""
    tracer_warnings: tuple[str, ...] = ()
    path: str = ""
    out: str = ""


class Reply(Struct, frozen=True):
    """`error` is a sentence, or empty; the rest answers `open`."""

    error: str = ""
    unsafe: bool = False
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    offline: bool = False


class Opened(Protocol):
    """A model that was opened here."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """As they will be served."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """As they will be served."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Of a classifier."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the table that it reads, in their order; empty where it reads none, or one without names."""

    def known(self) -> Arrays | None:
        """Rows like those that it was trained on, as far as it tells."""

    def convert(self, path: Path) -> None:
        """Write it as ONNX, or as TorchScript where the path ends in .pt."""

    def predict(self, arrays: Arrays) -> Arrays:
        """Answer as the source does."""
