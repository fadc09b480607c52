"""What a person says of a model's inputs where it does not itself: by name, type and shape, or by rows of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from msgspec.structs import replace

from exporters.errors import ExportError
from exporters.formats import onnx
from exporters.formats.tensors import NUMPY, TRITON, Array, Arrays, triton_name
from exporters.rows import arranged, fit, in_order
from exporters.sources.references import Origin
from trading.models.rows import Rows
from trading.models.signature import Dtype, TensorSpec

#: Flavours whose one input is a table, served as a matrix in single precision unless more is asked for.
TABLES = ("sklearn", "xgboost", "lightgbm")
DECLARED = re.compile(r"(?P<name>[^\[\]]+):(?P<dtype>[A-Za-z0-9_]+)(\[(?P<shape>[-0-9,\s]*)\])?")
EXAMPLE = "as in x:FP32[4] or image:UINT8[3,224,224], without the batch axis"
#: Of one row of one input.
MOST_BYTES = 2**30
#: How a signature can be had, for messages.
WAYS = (
    "say --sample FILE with rows like its own, or --input NAME:DTYPE[SHAPE] for each; or log it with "
    "signature=infer_signature(inputs, outputs), which mlflow.models.set_signature(URI, signature) adds to a model "
    "that is logged already"
)


def parse_input(text: str) -> TensorSpec:
    """An input as --input declares it, "NAME:DTYPE[SHAPE]".

    The dtype is Triton's name or NumPy's; the shape is one row's, [1] where it is left out, and a batch axis of -1
    before it is left away.

    Raises:
        ExportError: it is something else.
    """
    found = DECLARED.fullmatch(text.strip())
    if found is None:
        raise ExportError(f"--input {text!r}: expected NAME:DTYPE[SHAPE], {EXAMPLE}")
    dims = dims_of(text, found["shape"] or "")
    dtype = dtype_named(text, found["dtype"])
    if math.prod(dims) * np.dtype(NUMPY[dtype]).itemsize > MOST_BYTES:
        raise ExportError(f"--input {text!r}: one row of it would take more than {MOST_BYTES >> 20:,} MiB")
    return TensorSpec(found["name"].strip(), dims, dtype)


def dims_of(text: str, shape: str) -> tuple[int, ...]:
    """Of one row."""
    words = [word.strip() for word in shape.split(",")] if shape.strip() else []
    try:
        dims = [int(word) for word in words]
    except ValueError:
        raise ExportError(f"--input {text!r}: its shape is to be whole numbers, {EXAMPLE}") from None
    if dims[:1] == [-1]:
        dims = dims[1:]
    if any(dim < 1 for dim in dims):
        raise ExportError(f"--input {text!r}: rows are served at one length: give each axis its own, {EXAMPLE}")
    return tuple(dims) or (1,)


def dtype_named(text: str, name: str) -> Dtype:
    """Triton's dtype, by its name in Triton, in config.pbtxt or in NumPy."""
    plain = name.upper().removeprefix("TYPE_")
    for known in NUMPY:
        if plain == known:
            return known
    try:
        return TRITON[np.dtype(name.lower())]
    except (TypeError, KeyError):
        raise ExportError(f"--input {text!r}: {name!r} is no dtype: expected {', '.join(NUMPY)}") from None


def declared(origin: Origin, inputs: Sequence[TensorSpec], sample: Rows | None, precision: str = "fp32") -> Origin:
    """A model's origin with the inputs and the rows that a person gives, or else as its own example has them.

    What a signature says goes first, then a person's word, then the example that was logged without a signature.

    Args:
        origin: as it was fetched.
        inputs: as --input declares them; empty for none.
        sample: rows like its own; None for none.
        precision: asked for: of a table it says whether rows are in double.

    Raises:
        ExportError: they do not fit each other, or what the model says of itself.
    """
    check_declared(origin, inputs, precision)
    inputs = tuple(replace(t, dtype="FP32") for t in inputs) if origin.flavour in TABLES else tuple(inputs)
    if sample is not None:
        return with_sample(origin, inputs, sample)
    if not inputs and not origin.inputs and origin.guess is not None:
        # Whoever logged it promised nothing by it: one that fits nothing tells nothing.
        with suppress(ExportError):
            return with_sample(origin, (), origin.guess)
    return replace(origin, inputs=origin.inputs or inputs)


def check_declared(origin: Origin, inputs: Sequence[TensorSpec], precision: str) -> None:
    """Raise ExportError for declarations that contradict each other, the signature, or what is asked for."""
    names = [t.name for t in inputs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ExportError(f"--input declares {min(twice)!r} twice")
    if inputs and origin.inputs and set(inputs) != set(origin.inputs):
        raise ExportError(
            f"{origin.name} has a signature, which says {onnx.text(origin.inputs)}, and --input says "
            f"{onnx.text(inputs)}: leave out --input, or log the model again with another signature"
        )
    served = "FP64" if precision == "fp64" else "FP32"
    if origin.flavour in TABLES and (wrong := [t for t in inputs if t.dtype != served]):
        raise ExportError(
            f"--input declares {onnx.text(wrong)}, and a table is served as FP32, or as FP64 with --precision fp64"
        )


def with_sample(origin: Origin, inputs: tuple[TensorSpec, ...], sample: Rows) -> Origin:
    """The origin with rows like its own, and with inputs as these have them where nobody has declared any."""
    is_table = origin.flavour in TABLES
    if is_table:
        sample = in_order(sample, origin.columns)
    told = origin.inputs or inputs
    return replace(
        origin,
        inputs=told or specs_of(origin, sample),
        columns=origin.columns or (sample.columns if is_table else ()),
        example=as_logged(origin, sample, told or specs_of(origin, sample)),
        unnamed=origin.unnamed if told else "" in sample.arrays,
    )


def specs_of(origin: Origin, sample: Rows) -> tuple[TensorSpec, ...]:
    """Inputs as the rows have them: names, types and shapes.

    Double precision, NumPy's and pandas' default, is taken for single; what is to be served as FP64 says so.
    """
    if origin.flavour == "onnx":
        own = onnx.signature_of(origin.artefact)[0]
        arrays = arranged(sample, [t.name for t in own])
        fixed = tuple(replace(t, dims=row_dims(a)) for t, a in zip(own, arrays, strict=True))
        if not all(map(onnx.agrees, own, fixed)):
            raise ExportError(
                f"{sample.path} has rows of {onnx.text(fixed)}, and {origin.name} takes {onnx.text(own)}"
            )
        return fixed
    if origin.flavour in TABLES:
        if len(sample.arrays) > 1:
            raise ExportError(
                f"{sample.path} holds {', '.join(sample.arrays)}, and {origin.name} takes one matrix: give .npy, "
                ".csv or .parquet"
            )
        return (TensorSpec("input", (row_dims(next(iter(sample.arrays.values())))[-1],)),)
    found = []
    for k, (name, array) in enumerate(sample.arrays.items()):
        called = name or ("input" if len(sample.arrays) == 1 else f"input_{k}")
        dtype = triton_name(array.dtype, f"{sample.path}: {called}")
        found.append(TensorSpec(called, row_dims(array), "FP32" if dtype == "FP64" else dtype))
    return tuple(found)


def row_dims(array: Array) -> tuple[int, ...]:
    """Of one row; a number a row is a column."""
    return tuple(int(dim) for dim in array.shape[1:]) or (1,)


def as_logged(origin: Origin, sample: Rows, inputs: tuple[TensorSpec, ...]) -> Arrays:
    """The rows as an input example would have been logged: a table's in double precision."""
    if origin.flavour not in TABLES:
        return fit(sample, inputs)
    return fit(sample, tuple(replace(t, dtype="FP64") for t in inputs))
