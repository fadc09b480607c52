"""Arrays by Triton's dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.errors import ExportError
from trading.models.signature import Dtype, TensorSpec

Array = npt.NDArray[Any]
#: One array a tensor, in the signature's order, each [rows, *dims].
Arrays = list[Array]
#: A model that can be asked, wherever it is.
Run = Callable[[Arrays], Arrays]

NUMPY: dict[Dtype, Any] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
TRITON: dict[Any, Dtype] = {np.dtype(v): k for k, v in NUMPY.items()}


def dtype_of(spec: TensorSpec) -> np.dtype[Any]:
    """NumPy's dtype of a tensor."""
    return np.dtype(NUMPY[spec.dtype])


def triton_name(dtype: Any, where: str) -> Dtype:
    """Triton's name of a NumPy dtype. Raises ExportError for text, objects and times."""
    found = TRITON.get(np.dtype(dtype))
    if found is None:
        raise ExportError(f"{where} is of type {np.dtype(dtype)}: only numbers and booleans can be served")
    return found


def example(specs: tuple[TensorSpec, ...], rows: int = 3) -> Arrays:
    """Some rows of each tensor's own dtype: normal numbers, or zeros, which are a class's and a row's number too.

    Not one row alone: a batch of one could be folded into a graph as a constant.
    """
    random = np.random.default_rng(5)
    return [
        (random.normal(size=(rows, *t.dims)) if t.dtype.startswith("FP") else np.zeros((rows, *t.dims))).astype(
            dtype_of(t)
        )
        for t in specs
    ]


def logged(path: str, specs: tuple[TensorSpec, ...], rows: int = 3) -> Arrays:
    """The first rows that were logged with a model, from a file of them; else as `example` makes some."""
    if not path:
        return example(specs, rows)
    with np.load(path, allow_pickle=False) as stored:
        kept = [stored[name] for name in stored.files]
    return [np.resize(a, (rows, *t.dims)).astype(dtype_of(t)) for t, a in zip(specs, kept, strict=True)]


def check_shapes(where: str, specs: tuple[TensorSpec, ...], arrays: Arrays, rows: int) -> None:
    """Raise ExportError unless arrays are what the specs say, for a batch of `rows`."""
    if len(specs) != len(arrays):
        raise ExportError(f"{where} gives {len(arrays)} outputs; the signature names {len(specs)}")
    for spec, array in zip(specs, arrays, strict=True):
        wanted = (rows, *spec.dims)
        if tuple(array.shape) != wanted or array.dtype != dtype_of(spec):
            raise ExportError(
                f"{where}: {spec.name} is {array.dtype} {list(array.shape)} for a batch of {rows}; "
                f"the signature says {dtype_of(spec)} {list(wanted)}"
            )
