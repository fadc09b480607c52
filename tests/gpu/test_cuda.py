"""What cannot be seen on a CPU: kernels, parity across devices, memory."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from exporters import probes
from exporters.parity import comparison, tolerance
from exporters.profiles import find, gpus
from exporters.target import doctor, memory
from exporters.target.gpu_check import Torch, check
from trading.history import open_source
from trading.models.signature import REGIME_DETECTION
from trainers.data.build import BuildSettings, build
from trainers.data.dataset import open_dataset
from trainers.models.nets import RegimeDetection
from trainers.training.fold import FoldSettings
from trainers.training.loop import LoopSettings, Task, fit
from trainers.walk_forward import TrainSettings, train_all

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
WIDTH = 1024


@pytest.fixture(autouse=True)
def libraries():
    """ONNX Runtime takes CUDA's libraries from the wheels that torch brought."""
    onnxruntime.preload_dlls()


def session(model, *, tf32):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    provider = ("CUDAExecutionProvider", {"use_tf32": int(tf32), "arena_extend_strategy": "kSameAsRequested"})
    made = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])
    assert made.get_providers()[0] == "CUDAExecutionProvider"
    return made


def product():
    """y = x @ w with wide, uneven factors, where TF32 shows."""
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.normal(size=(WIDTH, WIDTH)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_torch_has_kernels_for_this_device():
    major, minor = torch.cuda.get_device_capability()
    assert f"sm_{major}{minor}" in torch.cuda.get_arch_list()
    x = torch.ones(64, 64, device="cuda")
    assert float((x @ x).sum()) == 64.0**3


def test_the_check_of_the_containers_passes_here():
    found = check(Torch(), None)
    assert found.ok, found.told


def test_the_arch_list_is_the_one_that_the_doctor_reads_without_a_device():
    assert torch.cuda.get_arch_list() == torch._C._cuda_getArchFlags().split()


def test_the_doctor_sees_driver_and_card():
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    card = next((g for g in gpus().values() if g.capability == capability), None)
    if card is None:
        pytest.skip(f"no card of capability {capability} is described")
    found = doctor.device(find("25.03-py3"), card)
    assert [f.check for f in found] == ["driver", "GPU"]
    assert all(f.verdict != "cannot tell" for f in found)


@pytest.mark.parametrize("rows", [1, 2, 3, 64, 1024])
def test_regime_detection_answers_on_cuda_as_on_the_cpu(rows):
    torch.manual_seed(0)
    features = probes.golden(REGIME_DETECTION, rows)
    net = RegimeDetection(torch.from_numpy(probes.golden(REGIME_DETECTION, 512)[0])).eval()
    with torch.inference_mode():
        wanted = net(torch.from_numpy(features[0])).numpy()
        got = net.to("cuda")(torch.from_numpy(features[0]).to("cuda")).cpu().numpy()
    found = comparison.compare(REGIME_DETECTION, [wanted], [got], where="served", rows="golden", device="gpu")
    comparison.require(REGIME_DETECTION, found)


def test_tf32_is_what_the_tolerances_say():
    model = product()
    x = np.random.default_rng(1).normal(size=(64, WIDTH)).astype(np.float32)
    (weight,) = (numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer)
    exact = x.astype(np.float64) @ weight
    apart = {
        tf32: float(np.abs(session(model, tf32=tf32).run(None, {"x": x})[0] - exact).max() / np.abs(exact).max())
        for tf32 in (False, True)
    }
    assert apart[False] <= tolerance.GPU.share
    assert apart[True] <= tolerance.GPU_TF32.share
    if torch.cuda.get_device_capability() >= (8, 0):
        assert apart[True] > 10 * apart[False]


def used_mib():
    import pynvml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pynvml.nvmlInit()
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used / memory.MIB
    finally:
        pynvml.nvmlShutdown()


def test_the_memory_plan_is_not_below_what_nvml_sees(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(product(), path)
    spec = REGIME_DETECTION.inputs[0].__class__("x", (WIDTH,))
    signature = REGIME_DETECTION.__class__("product", "onnxruntime", (spec,), (), (), None, 4096)
    weights, activations = memory.measure(signature, path)
    planned = memory.need("product", 1, 1, weights, activations).total_mib
    warm = session(product(), tf32=False)
    warm.run(None, {"x": np.zeros((1, WIDTH), np.float32)})
    before = used_mib()
    second = session(product(), tf32=False)
    second.run(None, {"x": np.zeros((4096, WIDTH), np.float32)})
    grown = used_mib() - before
    assert grown <= planned
    assert planned <= max(4 * grown, grown + 256)


def test_a_training_on_cuda_is_repeatable_and_finds_what_one_on_the_cpu_finds(tmp_path):
    build(
        [open_source("simulate:regimes?seed=3&ticks=9000&symbols=3")],
        BuildSettings(),
        tmp_path / "d",
        lambda *_: None,
    )
    data = open_dataset(tmp_path / "d")
    settings = TrainSettings(fold=FoldSettings(teacher="hmm"))
    one, again = train_all(data, settings), train_all(data, settings)
    for a, b in zip(one.models, again.models, strict=True):
        assert all(
            torch.equal(x, y)
            for x, y in zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True)
        )
    assert all(not p.is_cuda for model in one.models for p in model.module.parameters())
    assert one.reports[-1].agreement > 0.85  # 0.95 on a CPU


def test_a_batch_that_exceeds_the_cards_memory_is_halved():
    net = torch.nn.Linear(4, 1).to("cuda")
    x = torch.randn(512, 4, device="cuda")
    free, _ = torch.cuda.mem_get_info()

    def greedy(rows):
        # What a row needs is such that half of a batch fits.
        room = torch.empty(int(len(rows) / 256 * free * 0.4), dtype=torch.uint8, device="cuda")
        return net(x[rows]).square().mean() + 0.0 * room[:1].float().sum()

    found = fit(Task("stage", net, len(x), greedy), LoopSettings(epochs=1, batch_size=512, min_steps=1))
    assert found.parts > 1
