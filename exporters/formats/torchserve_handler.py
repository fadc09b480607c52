"""What a TorchServe worker runs for our archives: TorchScript alone, tensors as raw bytes, nothing unpickled.

It travels within each archive, and may import what a TorchServe has: PyTorch and the standard library.

A request is what KServe's v2 protocol calls an inference request: a JSON header that names each input with its
datatype and shape, and the tensors' bytes behind one another, little-endian and row-major. Over gRPC these are the
inputs `header` and `data`; the answer is four bytes, the length of its own header in little-endian, that header,
and the outputs' bytes. As plain JSON (HTTP) the header holds each tensor's numbers as `data`, and so does the
answer. A request of `describe` is answered with the contract, the version and the device.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import torch

DTYPES = {
    "BOOL": torch.bool, "INT8": torch.int8, "UINT8": torch.uint8, "INT16": torch.int16, "INT32": torch.int32,
    "INT64": torch.int64, "FP16": torch.float16, "FP32": torch.float32, "FP64": torch.float64,
}  # fmt: skip
OK, BAD = 200, 400
LENGTH = struct.Struct("<I")


class RequestRefused(Exception):
    """The caller's fault, in words for him."""


class State:
    """Of this worker: one model, one version."""

    contract: dict[str, Any]
    version = ""
    model: Any = None
    device = torch.device("cpu")


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[Any] | None:
    """Load the model where `data` is None; else answer each request of a batch, in order."""
    if data is None:
        load(context)
        return None
    answers = []
    for place, request in enumerate(data):
        try:
            answer, status = answered(request), OK
        except RequestRefused as error:
            answer, status = json.dumps({"error": str(error)}).encode(), BAD
            if "header" in request:
                # Over gRPC a status is not told: who asked finds the sentence where he looks for the outputs.
                answer = LENGTH.pack(len(answer)) + answer
        context.set_response_status(code=status, idx=place)
        answers.append(answer)
    return answers


def load(context: Any) -> None:
    """The contract and the module; on the GPU that the server gave this worker, where it gave one."""
    properties = context.system_properties
    folder = Path(properties["model_dir"])
    State.contract = json.loads((folder / "contract.json").read_text())
    State.version = str(context.manifest["model"]["modelVersion"])
    gpu = properties.get("gpu_id")
    if gpu is not None and torch.cuda.is_available():
        State.device = torch.device("cuda", int(gpu))
    torch.set_num_threads(1)
    # The optimising executor compiles for the first shapes that it sees, in mid-traffic, and answers otherwise.
    torch._C._jit_set_profiling_executor(False)  # noqa: SLF001
    torch._C._jit_set_profiling_mode(False)  # noqa: SLF001
    State.model = torch.jit.load(str(folder / "model.pt"), map_location=State.device).eval()
    warm_up()


def warm_up() -> None:
    """One row of zeros: the first call costs more than the others."""
    inputs = [
        torch.zeros((1, *spec["dims"]), dtype=DTYPES[spec["dtype"]], device=State.device)
        for spec in State.contract["inputs"]
        if -1 not in spec["dims"]
    ]
    if len(inputs) == len(State.contract["inputs"]):
        run(inputs)


def answered(request: dict[str, Any]) -> bytes:
    """One request's answer. Raises RequestRefused."""
    if "describe" in request:
        told = {**State.contract, "version": State.version, "device": State.device.type}
        return json.dumps(told).encode()
    if "header" in request:
        header = json_of(bytes(request["header"]))
        inputs = from_bytes(header, memoryview(bytes(request.get("data", b""))))
        return to_bytes(run(inputs))
    body = request.get("body", request.get("data"))
    if body is None:
        raise RequestRefused("a request has the inputs header and data, or describe, or is a JSON body")
    if isinstance(body, bytes | bytearray | str):
        body = json_of(body)
    if not isinstance(body, dict):
        raise RequestRefused("the request's body is no JSON object")
    header = body
    return json.dumps(to_numbers(run(from_numbers(header)))).encode()


def json_of(content: bytes | bytearray | str) -> Any:
    """A JSON object. Raises RequestRefused."""
    try:
        found = json.loads(content)
    except ValueError as error:
        raise RequestRefused(f"the request's header is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise RequestRefused("the request's header is no JSON object")
    return found


def specified(header: Any) -> list[tuple[dict[str, Any], dict[str, Any], list[int]]]:
    """Each input of the contract with what is given for it, and its shape. Raises RequestRefused."""
    given = header.get("inputs") if isinstance(header, dict) else None
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise RequestRefused("inputs: expected a list of objects with name, datatype and shape")
    wanted = {spec["name"]: spec for spec in State.contract["inputs"]}
    names = [one.get("name") for one in given]
    if sorted(map(str, names)) != sorted(wanted):
        raise RequestRefused(f"inputs are {', '.join(map(str, names))}: expected {', '.join(wanted)}")
    found, rows = [], None
    for one in given:
        spec = wanted[one["name"]]
        shape = one.get("shape")
        if one.get("datatype") != spec["dtype"] or not fits(shape, spec["dims"]):
            raise RequestRefused(
                f"{spec['name']} is {one.get('datatype')} {shape}: expected {spec['dtype']} {[-1, *spec['dims']]}"
            )
        rows = shape[0] if rows is None else rows
        if shape[0] != rows:
            raise RequestRefused(f"{spec['name']} has {shape[0]} rows, and another input {rows}")
        if not 1 <= rows <= State.contract["max_batch_size"]:
            raise RequestRefused(f"{rows} rows: expected 1 to {State.contract['max_batch_size']}")
        found.append((spec, one, shape))
    return found


def fits(shape: Any, dims: list[int]) -> bool:
    """Whether a shape is that of rows of these dims; -1 is any size."""
    if not isinstance(shape, list) or len(shape) != len(dims) + 1:
        return False
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape):
        return False
    return all(dim in {-1, size} for size, dim in zip(shape[1:], dims, strict=True))


def from_bytes(header: Any, content: memoryview) -> list[torch.Tensor]:
    """Tensors in the contract's order. Raises RequestRefused."""
    found, place = {}, 0
    for spec, _, shape in specified(header):
        dtype = DTYPES[spec["dtype"]]
        size = math.prod(shape) * dtype.itemsize
        part = content[place : place + size]
        place += size
        if len(part) != size:
            raise RequestRefused(f"data ends within {spec['name']}: {len(content)} bytes")
        # A copy, which the model may write into.
        tensor = torch.frombuffer(bytearray(part), dtype=dtype) if size else torch.empty(0, dtype=dtype)
        found[spec["name"]] = tensor.reshape(shape).to(State.device)
    if place != len(content):
        raise RequestRefused(f"data has {len(content)} bytes: expected {place}")
    return [found[spec["name"]] for spec in State.contract["inputs"]]


def from_numbers(header: Any) -> list[torch.Tensor]:
    """Tensors in the contract's order, of a request whose numbers are JSON. Raises RequestRefused."""
    found = {}
    for spec, one, shape in specified(header):
        try:
            tensor = torch.tensor(one.get("data"), dtype=DTYPES[spec["dtype"]])
            found[spec["name"]] = tensor.reshape(shape).to(State.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RequestRefused(f"data of {spec['name']}: {str(error).splitlines()[0]}") from None
    return [found[spec["name"]] for spec in State.contract["inputs"]]


def run(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The model's answers in the contract's order, on the CPU, each checked."""
    with torch.inference_mode():
        answer = State.model(*inputs)
    found = [answer] if isinstance(answer, torch.Tensor) else list(answer)
    outputs = State.contract["outputs"]
    if len(found) != len(outputs):
        raise ValueError(f"the model answers with {len(found)} tensors, the contract has {len(outputs)}")
    for spec, tensor in zip(outputs, found, strict=True):
        if tensor.dtype != DTYPES[spec["dtype"]] or not fits(list(tensor.shape), spec["dims"]):
            raise ValueError(f"{spec['name']} is {tensor.dtype} {list(tensor.shape)}")
    return [tensor.contiguous().cpu() for tensor in found]


def described(outputs: list[torch.Tensor]) -> dict[str, Any]:
    """The header of an answer."""
    return {
        "model_name": State.contract["name"],
        "model_version": State.version,
        "outputs": [
            {"name": spec["name"], "datatype": spec["dtype"], "shape": list(tensor.shape)}
            for spec, tensor in zip(State.contract["outputs"], outputs, strict=True)
        ],
    }


def to_bytes(outputs: list[torch.Tensor]) -> bytes:
    """The answer to a request of raw bytes."""
    header = json.dumps(described(outputs)).encode()
    return b"".join([LENGTH.pack(len(header)), header, *(tensor.numpy().tobytes() for tensor in outputs)])


def to_numbers(outputs: list[torch.Tensor]) -> dict[str, Any]:
    """The answer to a request of JSON; what is not finite is null, for which JSON has no number."""
    told = described(outputs)
    for one, tensor in zip(told["outputs"], outputs, strict=True):
        numbers = tensor.flatten().tolist()
        one["data"] = [x if not isinstance(x, float) or math.isfinite(x) else None for x in numbers]
    return told
