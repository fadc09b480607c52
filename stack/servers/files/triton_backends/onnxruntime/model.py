"""A Triton backend named "onnxruntime" for machines without the native one.

The Python backend of the server was built against NumPy 1: with NumPy 2 installed
`pb_utils.Tensor(name, array)` yields an empty tensor, so arrays travel by DLPack only.
"""

import ctypes
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from ultrathink_answers import whole, yield_to_others

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = [ctypes.py_object, ctypes.c_void_p]


class Handed:
    """An array whose DLPack capsule belongs to whoever takes it.

    The server renames a taken capsule to "used_dlpack", where the protocol says "used_dltensor";
    NumPy's capsule destructor stumbles over that with a traceback for each tensor. The server
    frees the tensor itself, so the capsule needs no destructor.
    """

    def __init__(self, array):
        self.array = np.ascontiguousarray(array)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **_):
        capsule = self.array.__dlpack__()
        _set_destructor(capsule, None)
        return capsule


class TritonPythonModel:
    """Runs `model.onnx` of one version on the CPU."""

    @staticmethod
    def auto_complete_config(config):
        """The configuration is complete as it is."""
        return config

    def initialize(self, args):
        """Load the version that the server names. Raises TritonModelException for a GPU."""
        if args["model_instance_kind"] == "GPU":
            raise pb_utils.TritonModelException("this server's backends compute on the processor, and know no GPU")
        config = json.loads(args["model_config"])
        yield_to_others(config)
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("ULTRATHINK_TRITON_THREADS", "1"))
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # As the native backend reads it: 1 is extended, and what changes the layout of tensors answers otherwise.
        if config.get("optimization", {}).get("graph", {}).get("level", 0) == 1:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        # Spinning threads would steal the other core from the rest of the stack.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [i["name"] for i in config["input"]]
        self.outputs = [o["name"] for o in config["output"]]

    def execute(self, requests):
        """An answer a request. Raises TritonModelException where none could be answered."""
        return whole([self.answer(request) for request in requests])

    def answer(self, request):
        """The model's outputs for one request, or why there are none."""
        try:
            feed = {name: np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for name in self.inputs}
            results = self.session.run(self.outputs, feed)
        except Exception as error:  # one bad request must not end the model's process
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        tensors = [
            pb_utils.Tensor.from_dlpack(name, Handed(value))
            for name, value in zip(self.outputs, results, strict=True)
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)
