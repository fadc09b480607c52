"""Tensors as our handler takes them and answers with them; see exporters/formats/torchserve_handler.py."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from trading.errors import BadRecord
from trading.models.signature import TensorSpec

Array = npt.NDArray[Any]
NUMPY: Mapping[str, str] = {
    "BOOL": "?", "INT8": "i1", "UINT8": "u1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2",
    "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
LENGTH = struct.Struct("<I")
DESCRIBE: Mapping[str, bytes] = {"describe": b"1"}


class FramedAnswer(Struct, frozen=True):
    """An answer: who gave it, and its tensors by name."""

    model_name: str
    model_version: str
    outputs: dict[str, Array]


class Described(Struct, frozen=True):
    """What a served version says of itself."""

    name: str
    version: str
    device: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feature_version: int | None
    max_batch_size: int


class AnswerRefused(Exception):
    """The handler's own sentence on a request that it does not take."""


def question(specs: Sequence[TensorSpec], arrays: Sequence[Array]) -> dict[str, bytes]:
    """The inputs of a request: rows, [n, *dims] each, of the specs' own dtypes."""
    inputs = [
        {"name": spec.name, "datatype": spec.dtype, "shape": list(array.shape)}
        for spec, array in zip(specs, arrays, strict=True)
    ]
    content = b"".join(
        np.ascontiguousarray(array, NUMPY[spec.dtype]).tobytes() for spec, array in zip(specs, arrays, strict=True)
    )
    return {"header": json.dumps({"inputs": inputs}).encode(), "data": content}


def answer(content: bytes) -> FramedAnswer:
    """An answer from its bytes. Raises AnswerRefused, and BadRecord for what is none."""
    try:
        (length,) = LENGTH.unpack_from(content)
        place = LENGTH.size + length
        header = json.loads(content[LENGTH.size : place])
        if "error" in header:
            raise AnswerRefused(str(header["error"]))
        outputs = {}
        for one in header["outputs"]:
            dtype, shape = np.dtype(NUMPY[one["datatype"]]), tuple(one["shape"])
            size = int(np.prod(shape)) * dtype.itemsize
            if place + size > len(content):
                raise BadRecord(f"an answer ends within {one['name']}: {len(content)} bytes")
            outputs[str(one["name"])] = np.frombuffer(content, dtype, size // dtype.itemsize, place).reshape(shape)
            place += size
        if place != len(content):
            raise BadRecord(f"an answer has {len(content)} bytes, and its tensors {place}")
        return FramedAnswer(str(header["model_name"]), str(header["model_version"]), outputs)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRecord(f"what answers is no handler of ours: {error}") from error


_described = msgspec.json.Decoder(Described)


def description(content: bytes) -> Described:
    """What a version says of itself, from its answer to DESCRIBE. Raises BadRecord."""
    try:
        return _described.decode(content)
    except msgspec.DecodeError as error:
        raise BadRecord(f"what answers is no handler of ours: {error}") from error
