"""config.pbtxt from a model's signature, through Triton's own protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from gateway.domain.signature import MODELS, ModelSignature, TensorSpec

HEADER = "# Generated from gateway/domain/signature.py by `ultrathink export configs`; do not edit.\n"
#: A sample of each size is run before a version takes traffic.
WARM_UP_BATCHES = (1, 8, 64, 256, 1024)
KEPT_VERSIONS = 2

Device = Literal["gpu", "cpu"]


def render(signature: ModelSignature, device: Device, step_versions: Mapping[str, int]) -> str:
    """The file's text.

    Args:
        signature: the model.
        device: "gpu" for production (KIND_GPU, GPU 0: KIND_AUTO would silently become a CPU).
        step_versions: of an ensemble, the version that each step is pinned to.
    """
    config = pb.ModelConfig(name=signature.name, max_batch_size=signature.max_batch_size)
    for spec in signature.inputs:
        config.input.add(name=spec.name, data_type=pb.TYPE_FP32, dims=spec.dims)
    for spec in signature.outputs:
        config.output.add(name=spec.name, data_type=pb.TYPE_FP32, dims=spec.dims)
    config.parameters["feature_version"].string_value = str(signature.feature_version)
    if signature.backend == "ensemble":
        add_ensemble(config, signature, step_versions)
    else:
        add_instance(config, signature, device)
    return HEADER + text_format.MessageToString(config)


def add_instance(config: pb.ModelConfig, signature: ModelSignature, device: Device) -> None:
    """One instance and no dynamic batcher: the gateway batches, and a queue would only add delay."""
    config.backend = signature.backend
    config.default_model_filename = signature.file_name
    if signature.backend == "pytorch":
        config.platform = "pytorch_libtorch"
        # The optimising executor recompiles for the first shapes it sees, in mid-traffic.
        config.parameters["DISABLE_OPTIMIZED_EXECUTION"].string_value = "true"
    config.version_policy.latest.num_versions = KEPT_VERSIONS
    group = config.instance_group.add(count=1)
    if device == "gpu":
        group.kind = pb.ModelInstanceGroup.KIND_GPU
        group.gpus.append(0)
    else:
        group.kind = pb.ModelInstanceGroup.KIND_CPU
    for size in WARM_UP_BATCHES:
        sample = config.model_warmup.add(name=f"batch_{size}", batch_size=size)
        for spec in signature.inputs:
            add_sample(sample, spec)


def add_sample(sample: pb.ModelWarmup, spec: TensorSpec) -> None:
    """Random values: zeros can take a faster path than real rows."""
    tensor = sample.inputs[spec.name]
    tensor.data_type = pb.TYPE_FP32
    tensor.dims.extend(spec.dims)
    tensor.random_data = True


def add_ensemble(config: pb.ModelConfig, signature: ModelSignature, versions: Mapping[str, int]) -> None:
    """Steps with pinned versions; tensors are passed on by their own names."""
    config.platform = "ensemble"
    config.version_policy.latest.num_versions = 1
    for name in signature.steps:
        step = config.ensemble_scheduling.step.add(model_name=name, model_version=versions[name])
        for spec in MODELS[name].inputs:
            step.input_map[spec.name] = spec.name
        for spec in MODELS[name].outputs:
            step.output_map[spec.name] = spec.name


def pinned_steps(text: str) -> dict[str, int]:
    """Step versions of an ensemble's config.pbtxt; empty for any other model."""
    config = text_format.Parse(text, pb.ModelConfig())
    return {step.model_name: step.model_version for step in config.ensemble_scheduling.step}
