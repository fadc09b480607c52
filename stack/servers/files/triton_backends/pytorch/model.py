"""A Triton backend named "pytorch" for machines without the native one: runs TorchScript.

Arrays travel by DLPack only; see the onnxruntime backend beside this one.
"""

import json
import os
from pathlib import Path

import torch
import triton_python_backend_utils as pb_utils
from ultrathink_answers import whole, yield_to_others


class TritonPythonModel:
    """Runs `model.pt` of one version on the CPU."""

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
        path = Path(args["model_repository"]) / args["model_version"] / "model.pt"
        torch.set_num_threads(int(os.environ.get("ULTRATHINK_TRITON_THREADS", "1")))
        # The profiling executor recompiles for the first shapes it sees, in mid-traffic.
        torch._C._jit_set_profiling_executor(False)
        torch._C._jit_set_profiling_mode(False)
        self.module = torch.jit.load(str(path), map_location="cpu").eval()
        self.inputs = [i["name"] for i in config["input"]]
        self.outputs = [o["name"] for o in config["output"]]

    def execute(self, requests):
        """An answer a request. Raises TritonModelException where none could be answered."""
        with torch.inference_mode():
            return whole([self.answer(request) for request in requests])

    def answer(self, request):
        """The model's outputs for one request, or why there are none."""
        try:
            tensors = [
                torch.from_dlpack(pb_utils.get_input_tensor_by_name(request, name).to_dlpack())
                for name in self.inputs
            ]
            results = self.module(*tensors)
        except Exception as error:  # one bad request must not end the model's process
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        results = [results] if isinstance(results, torch.Tensor) else list(results)
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor.from_dlpack(name, value.contiguous())
                for name, value in zip(self.outputs, results, strict=True)
            ]
        )
