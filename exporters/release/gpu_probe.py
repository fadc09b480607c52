"""A model that Triton must run on a GPU, KIND_GPU, or not at all; it travels with the request, and is unloaded."""

from __future__ import annotations

import secrets

import numpy as np
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Serving, render_json
from exporters.release.triton_client import TritonServer
from exporters.repository.files import now
from exporters.target.gpu_validation import Seen
from trading.errors import ServiceUnavailable
from trading.models.signature import ModelSignature, TensorSpec

NAME, SIDE, VERSION = "ultrathink_gpu_probe", 16, 1
MODEL = ModelSignature(
    NAME, "onnxruntime", (TensorSpec("x", (SIDE,)),), (TensorSpec("y", (SIDE,)),), (), None, max_batch_size=8
)


def factors() -> np.ndarray:
    """float32 [SIDE, SIDE]; whole numbers, so that every order of adding gives the same."""
    return (np.arange(SIDE * SIDE, dtype=np.float32) % 7).reshape(SIDE, SIDE)


def graph() -> bytes:
    """The ONNX file of y = x @ factors."""
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "factors"], ["y"])],
        NAME,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", SIDE])],
        [numpy_helper.from_array(factors(), "factors")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def probe(triton: TritonServer) -> Seen:
    """Whether the server computes on a GPU. Raises ServiceUnavailable where it does not answer."""
    about = f"{triton.about()} at {triton.address}"
    # Two at once must not take each other's away.
    model = replace(MODEL, name=f"{NAME}_{secrets.token_hex(4)}")
    try:
        triton.load_copy(model, render_json(model, "gpu", Serving((VERSION,), real_rows=False)), VERSION, graph())
        try:
            rows = np.arange(2 * SIDE, dtype=np.float32).reshape(2, SIDE)
            (answer,) = triton.run(model, VERSION)([rows])
        finally:
            triton.unload(model.name)
    except ExportError as error:
        triton.forget(model.name)
        return Seen(False, about, f"{about} runs no model of KIND_GPU: {error}", now())
    except ServiceUnavailable as error:
        return Seen(False, about, f"{about} ended, or hung, while it ran a model of KIND_GPU: {error}", now())
    if not np.array_equal(answer, rows @ factors()):
        return Seen(False, about, f"{about} multiplies wrongly on its GPU", now())
    return Seen(True, about, f"{about} ran a model of KIND_GPU", now())
