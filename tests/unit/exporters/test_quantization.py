"""Eight bits: what they change is counted, and refused where it is more than the bounds say."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from msgspec.structs import replace
from onnx import TensorProto, helper

from exporters import probes, quantization
from exporters.asked import steady_rows
from exporters.errors import ExportError
from exporters.export import export_model
from exporters.parity.decisions import ranks, spearman
from exporters.quantization import Int8
from exporters.repository.repository import ModelRepository
from exporters.sources.running import run_file
from exporters.verify import verify
from tests.conformance import onnx_models
from tests.conformance.cases import CLASSES, NUMBERS
from tests.conformance.torch_models import net
from tests.unit.exporters.models import options, write_times
from trading.models.signature import ModelSignature, TensorSpec

SIGNATURE = ModelSignature("m", "onnxruntime", (TensorSpec("x", (4,)),), (TensorSpec("y", (1,)),), (), None)
WEIGHTS = np.random.default_rng(4).normal(size=(4, 4)) + 2
GOOD = Int8(0.0, 1.0, 0.3, 1.0, 0.5, 100)


def wide():
    """A classifier that has learnt something: where it decides, it decides clearly."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU()
    model = torch.nn.Sequential(*layers, torch.nn.Linear(128, 3))
    rows, classes = torch.from_numpy(NUMBERS), torch.from_numpy(CLASSES)
    steps = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(120):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(model(rows), classes).backward()
        steps.step()
    return model.eval()


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """A network in int8, with the model that it was."""
    folder = tmp_path_factory.mktemp("int8")
    model, repository = wide(), ModelRepository(folder / "models")
    net(model, NUMBERS, example=True, how="trace").save(folder / "wide")
    done = export_model(str(folder / "wide"), options(max_batch=64, precision="int8"), repository, lambda _: None)
    return model, repository, done


def test_what_is_said_of_it_is_so(quantized):
    model, repository, done = quantized
    contract = repository.lineage("wide", 1).contract
    path = repository.folder("wide", 1) / contract.file_name
    rows = np.random.default_rng(1).normal(size=(2000, 4)).astype(np.float32)
    run = run_file(contract, path)
    got = np.concatenate([run([rows[k : k + 64]])[0] for k in range(0, 2000, 64)])
    with torch.no_grad():
        wanted = model(torch.from_numpy(rows)).numpy()
    assert 0.0 < np.abs(got - wanted).max() < 0.2 * np.abs(wanted).max()
    assert (got.argmax(axis=1) != wanted.argmax(axis=1)).mean() <= 0.03
    assert done.int8["flip_rate"] <= quantization.FLIPS
    assert quantization.RANK <= done.int8["rank_correlation"] < 1.0
    assert 0.2 < done.int8["weights_share"] < 0.35
    assert done.int8["latency_share_64"] > 0.0
    kinds = [onnx.TensorProto.DataType.Name(t.data_type) for t in onnx.load(path).graph.initializer]
    assert kinds.count("INT8") >= 3


def test_a_rows_answer_does_not_hang_on_the_rows_beside_it(quantized):
    _, repository, _ = quantized
    contract = repository.lineage("wide", 1).contract
    run = run_file(contract, repository.folder("wide", 1) / contract.file_name)
    alone = run([NUMBERS[:1]])[0]
    beside = run([np.concatenate([NUMBERS[:1], np.full((3, 4), 1e6, np.float32)])])[0][:1]
    np.testing.assert_allclose(beside, alone, rtol=1e-5)


def test_it_can_be_verified_later(quantized):
    _, repository, _ = quantized
    report = verify("wide", 1, repository, None, "", lambda _: None)
    assert report.passed
    assert report.tolerance["file"] == 0.1


def test_rows_of_ones_own_calibrate_it(tmp_path):
    repository = ModelRepository(tmp_path / "models")
    net(wide(), NUMBERS, how="trace").save(tmp_path / "wide")
    np.save(tmp_path / "rows.npy", NUMBERS)
    asked = options(max_batch=64, precision="int8", calibrate=tmp_path / "rows.npy")
    done = export_model(str(tmp_path / "wide"), asked, repository, lambda _: None)
    assert done.int8["rows"] == len(NUMBERS) // 2
    np.save(tmp_path / "rows.npy", NUMBERS[:10])
    with pytest.raises(ExportError, match="10 finite rows, 10 of them different, are too few"):
        export_model(str(tmp_path / "wide"), asked, repository, lambda _: None)


def test_rows_that_are_none_are_named_with_what_they_should_be(tmp_path):
    (tmp_path / "rows.csv").write_text("1,2,3\n")
    (tmp_path / "rows.doc").write_text("1,2,3\n")
    np.savez(tmp_path / "rows.npz", wrong=NUMBERS)
    (tmp_path / "rows.npy").write_bytes(b"\x93NUMPY rubbish")
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    for name, words in {
        "rows.csv": r"x has shape \[1, 3\], and the model takes FP32 \[rows, 4\]",
        "rows.doc": "is no file of rows: give .npy, .npz", "rows.npz": "has no array 'x'; it holds 'wrong'",
        "rows.npy": "cannot be read", "pickled.npy": "holds objects", "absent.npy": "No such file",
    }.items():  # fmt: skip
        with pytest.raises(ExportError, match=words) as told:
            probes.from_file(SIGNATURE, tmp_path / name)
        assert "unsafely" not in str(told.value)


@pytest.mark.parametrize("opset", [11, 13, 15, 17, 21])
def test_files_of_older_opsets_are_quantized_too(tmp_path, opset):
    made = onnx_models.model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], outputs=[onnx_models.info("y", ["n", 1])],
        constants={"w": WEIGHTS[:, :1].astype(np.float32)}, opset=opset,
    )  # fmt: skip
    onnx.save(made, tmp_path / "old.onnx")
    np.save(tmp_path / "rows.npy", NUMBERS + 5)
    asked = options(max_batch=64, precision="int8", calibrate=tmp_path / "rows.npy", name="old")
    done = export_model(str(tmp_path / "old.onnx"), asked, ModelRepository(tmp_path / "models"), lambda _: None)
    assert done.int8["rank_correlation"] > 0.99


def test_what_would_stay_in_double_is_refused(tmp_path):
    double = TensorProto.DOUBLE
    made = onnx_models.model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [onnx_models.info("x", ["n", 4], double)], [onnx_models.info("y", ["n", 4], double)], {"w": WEIGHTS},
    )  # fmt: skip
    onnx.save(made, tmp_path / "double.onnx")
    np.save(tmp_path / "rows.npy", NUMBERS)
    asked = options(max_batch=64, precision="int8", calibrate=tmp_path / "rows.npy", name="double")
    with pytest.raises(ExportError, match="has no product of float32 weights"):
        export_model(str(tmp_path / "double.onnx"), asked, ModelRepository(tmp_path / "models"), lambda _: None)


def test_it_is_judged_by_rows_like_its_own_whatever_it_is_calibrated_on(tmp_path):
    net(wide(), NUMBERS, how="trace", example=True).save(tmp_path / "wide")
    asked = options(max_batch=64, precision="int8", calibrate=tmp_path / "rows.npy")
    np.save(tmp_path / "rows.npy", NUMBERS * 1e-3)
    with pytest.raises(ExportError, match="wide in int8 decides .* otherwise"):
        export_model(str(tmp_path / "wide"), asked, ModelRepository(tmp_path / "models"), lambda _: None)
    for rows in (np.zeros((128, 4), np.float32), np.full((128, 4), np.nan, np.float32)):
        np.save(tmp_path / "rows.npy", rows)
        with pytest.raises(ExportError, match="are too few"):
            export_model(str(tmp_path / "wide"), asked, ModelRepository(tmp_path / "models"), lambda _: None)


def test_rows_that_are_no_numbers_or_not_as_many_are_named(tmp_path):
    two = replace(SIGNATURE, inputs=(*SIGNATURE.inputs, replace(SIGNATURE.inputs[0], name="z")))
    np.savez(tmp_path / "two.npz", x=NUMBERS, z=NUMBERS[:7])
    with pytest.raises(ExportError, match="as many rows each as the other; they have x: 240, z: 7"):
        probes.from_file(two, tmp_path / "two.npz")
    for kind in ("U3", "M8[s]", "c8", "V4"):
        np.save(tmp_path / "rows.npy", np.zeros((8, 4), kind))
        with pytest.raises(ExportError, match="no numbers: give .npy"):
            probes.from_file(SIGNATURE, tmp_path / "rows.npy")


def test_an_int8_version_that_no_row_could_ask_about_is_not_published():
    asked = [np.zeros((3, 4), np.float32)]
    with pytest.raises(ExportError, match="m in int8 answers 0 of 3 rows"):
        steady_rows(SIGNATURE, "int8", asked, [np.ones((3, 1), np.float32)], [np.zeros((3, 1), np.float32)])


def test_what_has_no_product_is_a_sentence(tmp_path):
    path = write_times(tmp_path / "times" / "model.onnx", 2.0)
    np.save(tmp_path / "rows.npy", NUMBERS)
    asked = options(max_batch=64, precision="int8", calibrate=tmp_path / "rows.npy", name="times")
    with pytest.raises(ExportError, match="times has no matrix product"):
        export_model(str(path), asked, ModelRepository(tmp_path / "models"), lambda _: None)


@pytest.mark.parametrize(
    "bad", [{"flip_rate": 0.011}, {"rank_correlation": 0.98}, {"rank_correlation": float("nan")}]
)
def test_beyond_the_bounds_it_is_refused(bad):
    quantization.require(SIGNATURE, GOOD)
    with pytest.raises(ExportError, match="m in int8 decides"):
        quantization.require(SIGNATURE, replace(GOOD, **bad))


def test_ranks_of_equals_are_their_mean():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    a = np.arange(10.0).reshape(-1, 1)
    assert spearman(a, a**3) == pytest.approx(1.0)
    assert spearman(a, -a) == pytest.approx(-1.0)
    assert spearman(np.hstack([a, a]), np.hstack([a, -a])) == pytest.approx(-1.0)
    assert spearman(a, np.zeros_like(a)) == 0.0
    assert spearman(np.zeros_like(a), np.zeros_like(a)) == 1.0
