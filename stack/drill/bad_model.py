"""A model that takes as much memory as it is asked to, or fails: what a model server must survive."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
import numpy as np
from msgspec.structs import replace
from onnx import TensorProto, helper

from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Serving, render_json
from exporters.release.triton_client import TritonServer
from trading.errors import ServiceUnavailable
from trading.models.signature import ModelSignature, TensorSpec

NAME, VERSION = "ultrathink_drill", 1
MODEL = ModelSignature(
    NAME, "onnxruntime", (TensorSpec("x", (1,)),), (TensorSpec("y", (1,)),), (), None, max_batch_size=8
)
#: A request of so many floats cannot be answered.
REFUSED = -1
FLOAT_BYTES = 4


def graph() -> bytes:
    """The ONNX file of y = x + max(so many zeros as x says); a number below 0 fails."""
    made = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x"], ["count"], keepdims=0),
            helper.make_node("Cast", ["count"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Unsqueeze", ["whole", "first"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["most"], keepdims=0),
            helper.make_node("Add", ["x", "most"], ["y"]),
        ],
        NAME,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor("first", TensorProto.INT64, [1], [0])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


class BadModel:
    """Loaded in one Triton; it travels with the request, and lies in no repository."""

    def __init__(self, triton: TritonServer, name: str) -> None:
        """`name` is what it is called there."""
        self._triton = triton
        self._model = replace(MODEL, name=name)

    def load(self) -> None:
        """Raises ExportError where the server refuses it, ServiceUnavailable where it does not answer."""
        config = msgspec.json.decode(render_json(self._model, "cpu", Serving((VERSION,), real_rows=False)))
        # What it would be warmed up with is chance, and would be taken at its word.
        config.pop("model_warmup", None)
        self._triton.load_copy(self._model, msgspec.json.encode(config).decode(), VERSION, graph())

    def take(self, megabytes: float) -> bool:
        """Ask for an answer that needs so much memory; whether it came."""
        return self._ask(megabytes * 2**20 / FLOAT_BYTES)

    def fail(self) -> bool:
        """Ask for what cannot be answered; whether the server said so. One that was started anew is given it again.

        Raises ServiceUnavailable where it does not answer.
        """
        try:
            if not self._triton.is_loaded(self._model.name):
                self.load()
        except ExportError:
            return False
        return not self._ask(REFUSED)

    def _ask(self, count: float) -> bool:
        try:
            self._triton.run(self._model, VERSION)([np.array([[count]], dtype=np.float32)])
        except (ExportError, ServiceUnavailable):
            return False
        return True

    def unload(self) -> None:
        """Nothing where the server that held it is gone."""
        try:
            self._triton.unload(self._model.name)
        except (ExportError, ServiceUnavailable):
            return


@contextmanager
def bad_model(address: str) -> Iterator[BadModel]:
    """One, loaded; unloaded at the end."""
    with closing(TritonServer(address)) as triton:
        model = BadModel(triton, f"{NAME}_{secrets.token_hex(4)}")
        model.load()
        try:
            yield model
        finally:
            model.unload()
