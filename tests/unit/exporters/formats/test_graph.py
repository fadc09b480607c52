"""Surgery on graphs, and what it is judged by: the same answers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from exporters.conversion import check_fits
from exporters.errors import ExportError
from exporters.formats import graph
from exporters.formats import onnx as files
from exporters.formats.config_pbtxt import Serving
from exporters.profiles import containers, find, find_gpu, gpus
from exporters.release.triton_client import HARMLESS
from exporters.repository.repository import ModelRepository
from exporters.target import memory
from tests.unit.exporters.models import publish_times, times
from trading.models.signature import ModelSignature, TensorSpec


def run(model, **feed):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def signature(name, inputs, outputs):
    return ModelSignature(
        name, "onnxruntime", tuple(TensorSpec(n, (4,)) for n in inputs), tuple(TensorSpec(n, (4,)) for n in outputs)
    )


def test_fused_steps_answer_as_the_steps_one_after_the_other():
    first, second = times(2.0), times(3.0)
    for model, source, target in ((first, "x", "middle"), (second, "middle", "y")):
        graph.rename_input(model, "x", source)
        graph.keep_outputs(model, {"y": TensorSpec(target, (4,))})
    steps = [(signature("a", ["x"], ["middle"]), first), (signature("b", ["middle"], ["y"]), second)]
    fused = graph.fuse("ab", signature("ab", ["x"], ["middle", "y"]), steps)
    onnx.checker.check_model(fused)
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    middle, y = run(fused, x=rows)
    np.testing.assert_array_equal(middle, rows * 2)
    np.testing.assert_array_equal(y, rows * 2 * 3)


def test_outputs_become_columns_of_the_served_dtype():
    node = helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0)
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("best", TensorProto.INT64, ["n"])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    graph.keep_outputs(model, {"best": TensorSpec("best", (1,), "INT64")})
    (found,) = run(model, x=np.eye(3, dtype=np.float32))
    assert found.tolist() == [[0], [1], [2]]


def test_halving_keeps_the_ends_and_large_features_in_float32():
    weight = onnx.numpy_helper.from_array(np.full((4, 2), 0.5, np.float32), "w")
    scale = onnx.numpy_helper.from_array(np.array([1e-6], np.float32), "s")
    made = helper.make_graph(
        [helper.make_node("Mul", ["x", "s"], ["z"]), helper.make_node("MatMul", ["z", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weight, scale],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    halved = files.halve(model, (TensorSpec("y", (2,)),))
    kinds = {t.name: t.data_type for t in halved.graph.initializer}
    assert (kinds["w"], kinds["s"]) == (TensorProto.FLOAT16, TensorProto.FLOAT)
    (found,) = run(halved, x=np.full((3, 4), 1e6, np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 2.0, rtol=1e-3)
    with pytest.raises(ExportError, match="no matrix product"):
        files.halve(times(2.0), ())


def test_memory_counts_what_is_alive_at_once():
    node = [helper.make_node("Relu", [f"x{k}"], [f"x{k + 1}"]) for k in range(5)]
    made = helper.make_graph(
        node,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, ["n", 100])],
        [helper.make_tensor_value_info("x5", TensorProto.FLOAT, ["n", 100])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    # A chain needs two of its tensors at a time, not six.
    assert memory.live_bytes(model, 1000) == 2 * 1000 * 100 * 4


def test_the_plan_counts_instances_and_versions_and_knows_what_is_too_much(tmp_path):
    repository = ModelRepository(tmp_path / "models")
    assert memory.plan(repository, find_gpu("rtx5070")).needed_mib == 0
    publish_times(repository, tmp_path, 2.0)
    contract = repository.lineage("times", 1).contract
    repository.configure(contract, Serving((1,)))
    one = memory.plan(repository, find_gpu("rtx5070"))
    repository.configure(contract, Serving((1,), instances=3))
    three = memory.plan(repository, find_gpu("rtx5070"))
    assert three.needs[0].total_mib == pytest.approx(3 * one.needs[0].total_mib)
    assert one.fits
    many = memory.plan(repository, find_gpu("rtx5070"), {"times": Serving((1,), instances=400)})
    assert not many.fits
    assert "400 instances" in many.largest()


def test_a_model_that_no_card_of_this_size_holds_is_refused_before_it_is_loaded():
    spec = ModelSignature("huge", "onnxruntime", (), (), (), None)
    with pytest.raises(ExportError, match=r"huge would need .* MiB at batch 1024, and the GeForce RTX 5070 has"):
        check_fits(spec, find_gpu("rtx5070"), 9 * 2**30, 2**30)
    check_fits(spec, find_gpu("h200"), 9 * 2**30, 2**30)


def test_containers_and_cards_are_data_with_their_source():
    assert {"25.01-py3", "25.03-py3", "26.07-py3"} < set(containers())
    assert all(c.max_onnx_opset >= files.OPSET and c.max_onnx_ir >= 10 for c in containers().values())
    assert gpus()["rtx5070"].architecture == "sm_120"
    assert gpus()["rtx5070"].memory_mib == 12 * 1024
    with pytest.raises(ExportError, match="25.03-py3"):
        find("24.01-py3")
    with pytest.raises(ExportError, match="rtx5070"):
        find_gpu("voodoo2")


def test_what_clears_a_copy_that_did_not_load_copies_a_column():
    # Written out in the code, for processes without ONNX.
    session = onnxruntime.InferenceSession(HARMLESS, providers=["CPUExecutionProvider"])
    given = np.float32([[1.5], [-2.0]])
    (found,) = session.run(["y"], {"x": given})
    assert (found == given).all()
