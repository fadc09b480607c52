"""What is opened, what is refused, and where."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from mlflow.models import infer_signature
from mlflow.models.signature import ModelSignature as MlflowSignature
from mlflow.types import Schema, TensorSpec
from onnx import TensorProto, helper, numpy_helper

from exporters import probes
from exporters.errors import ExportError, ParityError, UnsafeArtefact
from exporters.export import export_model
from exporters.formats import onnx as files
from exporters.formats import torchscript
from exporters.repository.repository import ModelRepository
from exporters.sources.running import run_file
from tests.unit.exporters.models import options, times, write_times
from trading.models.signature import TensorSpec as TensorSpecOf


@pytest.fixture
def repository(tmp_path):
    return ModelRepository(tmp_path / "models")


def export(repository, path, **given):
    given.setdefault("max_batch", 64)
    return export_model(str(path), options(**given), repository, lambda _: None)


def refused(repository, path, says, error=ExportError, **given):
    with pytest.raises(error, match=says):
        export(repository, path, **given)
    assert repository.names() == []
    assert not list(repository.staging.glob("*~*"))


def signature(inputs, outputs):
    def schema(tensors):
        return Schema([TensorSpec(np.dtype(d), s, n) for n, s, d in tensors])

    return MlflowSignature(schema(inputs), schema(outputs))


def scripted(module=None):
    class Double(torch.nn.Module):
        def forward(self, x):
            return x * 2.0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module or Double(), torch.ones(3, 4))


def save_torch(path, module, **given):
    given.setdefault("signature", signature([("x", (-1, 4), "float32")], [("y", (-1, 4), "float32")]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pytorch.save_model(
            module, str(path), serialization_format="pickle", pip_requirements=["torch"], **given
        )
    return path


def test_torchscript_keeps_the_signatures_names_in_either_format(repository, tmp_path):
    named = signature([("rows", (-1, 4), "float32")], [("doubled", (-1, 4), "float32")])
    path = save_torch(tmp_path / "double", scripted(), signature=named)
    done = export(repository, path)
    assert (done.format, done.inputs, done.outputs) == ("ONNX", "rows FP32 [4]", "doubled FP32 [4]")
    done = export(repository, path, format="torchscript")
    assert done.version == 2
    module = torchscript.load(repository.folder("double", 2) / "model.pt", "double")
    assert torchscript.arguments(module) == ["rows"]
    assert torch.equal(module(torch.ones(2, 4)), torch.full((2, 4), 2.0))


def test_what_has_no_onnx_form_stays_torchscript(repository, tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    path = save_torch(tmp_path / "odd", scripted(Odd()))
    assert export(repository, path).format == "TorchScript"
    with pytest.raises(ExportError, match="no ONNX form at opset 18"):
        export(repository, path, format="onnx")
    with pytest.raises(ExportError, match="add --format onnx"):
        export(repository, path, format="torchscript", precision="fp16")


def test_an_onnx_file_tells_its_own_signature(repository, tmp_path):
    done = export(repository, write_times(tmp_path / "double.onnx", 2.0), name="double")
    assert (done.name, done.version, done.inputs) == ("double", 1, "x FP32 [4]")
    with pytest.raises(ExportError, match="is ONNX already"):
        export(repository, tmp_path / "double.onnx", format="torchscript")


def test_external_data_is_taken_in(repository, tmp_path):
    folder = tmp_path / "external"
    folder.mkdir()
    model = times(2.0, width=4)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full(4, 2.0, np.float32), "factor"))
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    assert export(repository, folder / "m.onnx", name="m").version == 1
    assert not files.external(onnx.load(repository.folder("m", 1) / "model.onnx", load_external_data=False))
    (folder / "m.bin").unlink()
    with pytest.raises(ExportError, match="which is missing"):
        export(repository, folder / "m.onnx", name="m")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_external_data_elsewhere_is_refused(repository, tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    model = times(2.0)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    path = tmp_path / "m" / "m.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    refused(repository, path, "outside the model's folder: refused")


def test_a_symbolic_link_out_of_the_folder_is_refused(repository, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    folder = tmp_path / "m"
    folder.mkdir()
    model = times(2.0)
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    (folder / "m.bin").unlink(missing_ok=True)
    (folder / "m.bin").symlink_to(tmp_path / "secret.bin")
    refused(repository, folder / "m.onnx", "refused")


def test_more_than_two_gigabytes_is_refused_without_reading_them(repository, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    onnx.save(times(2.0), folder / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    os.truncate(folder / "m.bin", 2**31 + 10)
    refused(repository, folder / "m.onnx", r"2.0 GiB with its weights.*--precision fp16")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"batch": 8}, "batch axis of x is fixed at 8"),
        ({"ir": 11}, "IR 11; ONNX Runtime 1.21.0"),
        ({"opset": 23, "ir": 10}, "opset ai.onnx 23"),
        ({"factor": np.nan}, r"answers y \[nan, nan, nan, nan\] to golden rows that are finite, 1 of 1"),
        ({"factor": np.inf}, r"answers y \[.*inf.*\] to golden rows that are finite"),
        ({"factor": [1.0, np.nan, 2.0, 3.0]}, "factor holds NaN"),
        ({"factor": [1.0, np.inf, 2.0, 3.0]}, "factor holds an infinity"),
    ],
)
def test_an_onnx_file_that_the_target_would_refuse_is_named(repository, tmp_path, given, says):
    factor = given.pop("factor", 2.0)
    refused(repository, write_times(tmp_path / "m.onnx", factor, **given), says)


def test_a_file_written_for_one_row_is_served_one_row_at_once(repository, tmp_path):
    """As many public models are; within, the row's number may stand in every Reshape."""
    model = times(2.0, batch=1)
    model.graph.node.append(helper.make_node("Reshape", ["y", "shape"], ["z"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 2]), "shape"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2, 2]))
    onnx.save(model, tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    export(repository, tmp_path / "m.onnx", name="m", max_batch=None)
    contract = repository.lineage("m", 1).contract
    assert contract.max_batch_size == 1
    assert [(t.name, t.dims) for t in contract.outputs] == [("y", (4,)), ("z", (2, 2))]
    found = run_file(contract, repository.folder("m", 1) / "model.onnx")([np.ones((1, 4), np.float32)])
    assert [a.tolist() for a in found] == [[[2.0] * 4], [[[2.0, 2.0], [2.0, 2.0]]]]
    # What was given is as it was.
    assert (tmp_path / "m.onnx").read_bytes() == before
    with pytest.raises(ExportError, match="takes one row at once, its batch axis is fixed at 1: leave --max-batch"):
        export(repository, tmp_path / "m.onnx", name="m", max_batch=8)


def test_only_where_every_tensor_is_of_one_row_it_is_a_batch_of_one(repository, tmp_path):
    model = times(2.0, batch=1)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "m.onnx")
    refused(repository, tmp_path / "m.onnx", "batch axis of x is fixed at 1", name="m", max_batch=None)


def test_an_axis_that_is_written_as_minus_one_is_open(repository, tmp_path):
    """As Paddle writes it."""
    model = times(2.0, batch=-1)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -1
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == -1
    onnx.save(model, tmp_path / "m.onnx")
    given = (TensorSpecOf("x", (4,)),)
    assert export(repository, tmp_path / "m.onnx", name="m", inputs=given).inputs == "x FP32 [4]"


def test_whoever_is_judged_by_made_up_rows_is_told_so(repository, tmp_path):
    model = times(2.0)
    model.graph.node[0].CopyFrom(helper.make_node("Softmax", ["x"], ["y"], axis=0))
    onnx.save(model, tmp_path / "m.onnx")
    refused(
        repository, tmp_path / "m.onnx", "or give rows like its own with --sample FILE: these are made up", name="m"
    )
    np.save(tmp_path / "rows.npy", np.eye(8, 4, dtype=np.float32))
    with pytest.raises(ExportError, match="answers a row otherwise") as told:
        export(repository, tmp_path / "m.onnx", name="m", sample=tmp_path / "rows.npy")
    assert "made up" not in str(told.value)


def ending(kind):
    """y = 2 x, with another output whose kind is special."""
    model = times(2.0)
    add = model.graph.node.append
    if kind == "flat":
        add(helper.make_node("ReduceSum", ["x", "axis"], ["z"], keepdims=0))
        model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
        value = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch"])
    elif kind == "free":
        add(helper.make_node("Concat", ["x", "x"], ["z"], axis=1))
        value = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", "width"])
    elif kind == "bare":
        add(helper.make_node("Concat", ["x", "x"], ["z"], axis=1))
        value = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    elif kind == "scalar":
        add(helper.make_node("ReduceSum", ["x"], ["z"], keepdims=0))
        value = helper.make_tensor_value_info("z", TensorProto.FLOAT, [])
    else:
        add(helper.make_node("SequenceConstruct", ["x", "x"], ["z"]))
        value = helper.make_tensor_sequence_value_info("z", TensorProto.FLOAT, None)
    model.graph.output.append(value)
    return model


@pytest.mark.parametrize(("kind", "dims"), [("flat", 1), ("free", 8), ("bare", 8)])
def test_outputs_of_every_rank_are_served_as_columns(repository, tmp_path, kind, dims):
    onnx.save(ending(kind), tmp_path / "m.onnx")
    done = export(repository, tmp_path / "m.onnx", name="m")
    assert done.outputs == f"y FP32 [4], z FP32 [{dims}]"
    contract = repository.lineage("m", 1).contract
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    y, z = run_file(contract, repository.folder("m", 1) / "model.onnx")([rows])
    np.testing.assert_array_equal(y, 2 * rows)
    wanted = rows.sum(axis=1, keepdims=True) if kind == "flat" else np.concatenate([rows, rows], axis=1)
    np.testing.assert_array_equal(z, wanted)


@pytest.mark.parametrize(
    ("kind", "says"), [("scalar", "z is a scalar"), ("sequence", "z is a sequence, and only tensors.*zipmap")]
)
def test_outputs_that_are_no_rows_are_named_with_their_cause(repository, tmp_path, kind, says):
    onnx.save(ending(kind), tmp_path / "m.onnx")
    refused(repository, tmp_path / "m.onnx", says)


def test_a_free_inner_axis_of_a_file_is_named(repository, tmp_path):
    model = times(2.0)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "length"
    onnx.save(model, tmp_path / "m.onnx")
    refused(repository, tmp_path / "m.onnx", r"x has shape \[-1, -1\], and rows are served at one length")


def hidden(where, value):
    """y = 2 x, with a NaN that nothing but the graph's inside holds."""
    tensor = numpy_helper.from_array(np.array([2.0, value, 3.0, 2.0], np.float32), "inside")
    model = times(2.0)
    if where == "constant":
        node = helper.make_node("Constant", [], ["factor"], value=tensor)
        model.graph.node.insert(0, node)
    elif where == "branch":
        whole = helper.make_graph(
            [helper.make_node("Constant", [], ["never"], value=tensor)], "never", [],
            [helper.make_tensor_value_info("never", TensorProto.FLOAT, [4])],
        )  # fmt: skip
        usual = numpy_helper.from_array(np.full(4, 2.0, np.float32))
        other = helper.make_graph(
            [helper.make_node("Constant", [], ["usual"], value=usual)], "usual", [],
            [helper.make_tensor_value_info("usual", TensorProto.FLOAT, [4])],
        )  # fmt: skip
        yes = helper.make_node("Constant", [], ["is_usual"], value=numpy_helper.from_array(np.array(True)))
        choice = helper.make_node("If", ["is_usual"], ["factor"], then_branch=other, else_branch=whole)
        model.graph.node.insert(0, choice)
        model.graph.node.insert(0, yes)
    else:
        body = [
            helper.make_node("Constant", [], ["w"], value=tensor),
            helper.make_node("Mul", ["a", "w"], ["b"]),
        ]
        opset = [helper.make_opsetid("", 18)]
        model.functions.append(helper.make_function("ours", "Weighted", ["a"], ["b"], body, opset))
        model.opset_import.append(helper.make_opsetid("ours", 1))
        del model.graph.node[:]
        model.graph.node.append(helper.make_node("Weighted", ["x"], ["y"], domain="ours"))
    del model.graph.initializer[:]
    return model


@pytest.mark.parametrize(("where", "name"), [("constant", "factor"), ("branch", "never"), ("function", "w")])
@pytest.mark.parametrize(("value", "says"), [(np.nan, "holds NaN"), (np.inf, "holds an infinity")])
def test_a_weight_is_looked_for_wherever_it_may_be(repository, tmp_path, where, name, value, says):
    onnx.save(hidden(where, value), tmp_path / "m.onnx")
    refused(repository, tmp_path / "m.onnx", f"weight {name}[_0-9]* {says}")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_infinities_and_nan_that_are_meant_are_taken(repository, tmp_path, value):
    """A sentinel and a mask: no answer to a finite row holds them."""
    model = times(2.0)
    del model.graph.node[:]
    mask = np.where(np.arange(4) < 3, 0.0, -np.inf).astype(np.float32)
    for name, array in (("never", np.array([value], np.float32)), ("mask", mask), ("huge", np.float32([1e30]))):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.node.extend([
        helper.make_node("Greater", ["x", "huge"], ["is_huge"]),
        helper.make_node("Where", ["is_huge", "never", "x"], ["kept"]),
        helper.make_node("Add", ["kept", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=1),
        helper.make_node("Mul", ["shares", "factor"], ["y"]),
    ])  # fmt: skip
    onnx.save(model, tmp_path / "m.onnx")
    assert export(repository, tmp_path / "m.onnx", name="m").version == 1


def test_external_data_of_a_constant_is_refused_elsewhere_too(repository, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    model = hidden("constant", 2.0)
    tensor = model.graph.node[0].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    path = tmp_path / "m" / "m.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    refused(repository, path, "outside the model's folder: refused")


def test_an_operator_that_nobody_knows_is_named(repository, tmp_path):
    model = times(2.0)
    model.graph.node[0].domain, model.graph.node[0].op_type = "my.domain", "Magic"
    model.opset_import.append(helper.make_opsetid("my.domain", 1))
    onnx.save(model, tmp_path / "m.onnx")
    refused(repository, tmp_path / "m.onnx", "ONNX Runtime refuses|my.domain")


def test_a_torchscript_weight_that_is_nan_or_infinite_is_named(repository, tmp_path):
    for value, says in (
        (float("nan"), "weight weight holds NaN"),
        (float("inf"), "weight weight holds an infinity"),
    ):
        layer = torch.nn.Linear(4, 4)
        torch.nn.init.constant_(layer.weight, value)
        path = save_torch(tmp_path / f"m{value}", scripted(layer))
        refused(repository, path, says)


def test_a_signature_unlike_the_model_is_named(repository, tmp_path):
    wrong = signature([("x", (-1, 4), "float32")], [("y", (-1, 7), "float32")])
    refused(repository, save_torch(tmp_path / "m", scripted(), signature=wrong), r"y is float32 \[1, 4\].*\[1, 7\]")
    narrow = signature([("x", (-1, 5), "float32")], [("y", (-1, 4), "float32")])
    layer = torch.nn.Linear(4, 4)
    refused(
        repository, save_torch(tmp_path / "n", scripted(layer), signature=narrow), "does not run on a batch of 1"
    )
    two = signature([("x", (-1, 4), "float32"), ("z", (-1, 4), "float32")], [("y", (-1, 4), "float32")])
    refused(repository, save_torch(tmp_path / "o", scripted(), signature=two), "inputs are said to be x, z")


def test_an_onnx_signature_unlike_the_file_is_named(repository, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.onnx.save_model(
            times(2.0), str(tmp_path / "m"),
            signature=signature([("x", (-1, 5), "float32")], [("y", (-1, 4), "float32")]), save_as_external_data=False,
        )  # fmt: skip
    refused(repository, tmp_path / "m", r"inputs are x FP32 \[5\], the file's x FP32 \[4\]")


def test_a_frozen_batch_in_the_signature_and_free_inner_axes_are_named(repository, tmp_path):
    frozen = signature([("x", (8, 4), "float32")], [("y", (8, 4), "float32")])
    refused(repository, save_torch(tmp_path / "m", scripted(), signature=frozen), "fixed at 8")
    free = signature([("x", (-1, -1), "float32")], [("y", (-1, 4), "float32")])
    refused(repository, save_torch(tmp_path / "n", scripted(), signature=free), "only its first axis")


def test_no_signature_is_named(repository, tmp_path):
    path = save_torch(tmp_path / "m", scripted(), signature=False)
    refused(repository, path, "has no signature.*infer_signature")
    torch.jit.save(scripted(), tmp_path / "bare.pt")
    refused(repository, tmp_path / "bare.pt", "has no signature")


def test_a_model_of_ours_must_have_the_gateways_features(repository, tmp_path):
    right = signature([("features", (-1, 32), "float32")], [("regime_probabilities", (-1, 3), "float32")])
    for version in (99, None):
        path = save_torch(
            tmp_path / f"m{version}", scripted(torch.nn.Linear(4, 3)), signature=right,
            metadata={"feature_version": version} if version else None,
        )  # fmt: skip
        refused(repository, path, f"trained on feature version {version}", name="regime_detection")
    wrong = signature([("features", (-1, 4), "float32")], [("regime_probabilities", (-1, 3), "float32")])
    path = save_torch(
        tmp_path / "w", scripted(torch.nn.Linear(4, 3)), signature=wrong, metadata={"feature_version": 1}
    )
    refused(repository, path, "the gateway's contract says", name="regime_detection")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))

    def forward(self, x):
        return self.layers(x)


def test_a_pickled_module_is_refused_unread_and_opened_elsewhere_when_trusted(repository, tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).eval()
    two = signature([("x", (-1, 4), "float32")], [("y", (-1, 2), "float32")])
    path = save_torch(tmp_path / "net", net, signature=two)
    refused(repository, path, "pickled PyTorch module.*--trust", UnsafeArtefact)
    assert export(repository, path, trust=True).format == "ONNX"
    assert export(repository, path, trust=True, format="torchscript").format == "TorchScript"
    assert repository.lineage("net", 1).trusted


def test_an_exported_program_needs_no_trust(repository, tmp_path):
    net = Net().eval()
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pytorch.save_model(
            net, str(tmp_path / "net"), input_example=rows, serialization_format="pt2", pip_requirements=["torch"],
            signature=infer_signature(rows, net(torch.from_numpy(rows)).detach().numpy()),
        )  # fmt: skip
    done = export(repository, tmp_path / "net")
    assert (done.inputs, done.outputs) == ("x FP32 [4]", "output FP32 [2]")


class Spy:
    """Writes what it sees of the process that unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        code = (
            f"import os, json, socket; open({str(self.path)!r}, 'w').write("
            "json.dumps([os.getpid(), dict(os.environ)]))"
        )
        return exec, (code,)


def test_what_a_pickle_runs_it_runs_without_our_secrets(repository, tmp_path, monkeypatch):
    import json

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    folder, told = tmp_path / "evil", tmp_path / "told.json"
    rows = np.zeros((3, 4), np.float32)
    from sklearn.dummy import DummyClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            DummyClassifier().fit(rows, [0, 1, 0]), str(folder), serialization_format="cloudpickle",
            signature=infer_signature(rows, np.zeros(3, np.int64)), pip_requirements=["scikit-learn"],
        )  # fmt: skip
    (folder / "model.pkl").write_bytes(pickle.dumps(Spy(told)))
    refused(repository, folder, "is a pickle.*--trust", UnsafeArtefact)
    assert not told.exists()
    with pytest.raises(ExportError):
        export(repository, folder, trust=True)
    pid, environment = json.loads(told.read_text())
    assert pid != os.getpid()
    assert "hunter2" not in environment.values()
    assert not {k for k in environment if "MLFLOW" in k or "TOKEN" in k or "AWS" in k}
    assert environment["HOME"] != str(Path.home())


def test_unknown_files_and_folders_are_named(repository, tmp_path):
    refused(repository, tmp_path / "absent.onnx", "is no file")
    (tmp_path / "folder").mkdir()
    refused(repository, tmp_path / "folder", "holds no MLmodel")
    (tmp_path / "x.h5").write_bytes(b"x")
    refused(repository, tmp_path / "x.h5", "is no model that is known by its suffix")
    (tmp_path / "rubbish.onnx").write_bytes(b"rubbish")
    refused(repository, tmp_path / "rubbish.onnx", "is no ONNX model")
    (tmp_path / "rubbish.pt").write_bytes(b"rubbish")
    refused(repository, tmp_path / "rubbish.pt", "is no TorchScript archive")
    refused(repository, write_times(tmp_path / "ok.onnx", 2.0), "cannot be a served model's name", name="../up")


def test_text_columns_and_text_classes_are_named(repository, tmp_path):
    import pandas as pd
    from sklearn.svm import LinearSVC

    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "colour": ["r", "g", "b"]})
    path = save_torch(tmp_path / "m", scripted(), signature=infer_signature(table, np.zeros((3, 4), np.float32)))
    refused(repository, path, "column 'colour' is no number")
    lists = pd.DataFrame({"a": [1.0, 2.0, 3.0], "book": [[1.0, 2.0]] * 3})
    path = save_torch(tmp_path / "l", scripted(), signature=infer_signature(lists, np.zeros((3, 4), np.float32)))
    refused(repository, path, "column 'book' is Array.double., and a column is one number here")
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "day": pd.to_datetime(["2026-01-01"] * 3)})
    path = save_torch(tmp_path / "d", scripted(), signature=infer_signature(table, np.zeros((3, 4), np.float32)))
    refused(repository, path, "column 'day' is no number")
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    model = LinearSVC().fit(rows, ["buy", "sell"] * 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model, str(tmp_path / "n"), signature=infer_signature(rows, model.predict(rows)),
            pip_requirements=["scikit-learn"],
        )  # fmt: skip
    refused(repository, tmp_path / "n", "words cannot be served")


def test_a_name_that_is_no_text_is_a_sentence(repository, tmp_path):
    path = write_times(tmp_path / "named.onnx", 2.0)
    for old, new in ((b"\x01x", b"\x01\xff"), (b"\x01y", b"\x01\xfe")):
        broken = tmp_path / f"{new[1]}.onnx"
        broken.write_bytes(path.read_bytes().replace(old, new))
        with pytest.raises(ExportError) as told:
            export(repository, broken)
        assert "Traceback" not in str(told.value)
        assert not list(repository.root.glob("*/1"))


class Repairs(torch.nn.Module):
    """Does otherwise where a row has what is missing: a trace with rows that have none would never."""

    def forward(self, x):
        if torch.isnan(x).any():
            x = torch.nan_to_num(x, nan=5.0)
        return x * 2.0


class Unscriptable(torch.nn.Module):
    def forward(self, x):
        scales = dict.fromkeys(sorted({"b", "a"}), 2.0)
        return x * scales["a"] if bool(x.sum() > 0) else x


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_what_depends_on_the_rows_is_kept(repository, tmp_path, kind):
    path = save_torch(tmp_path / "m", Repairs())
    done = export(repository, path, trust=True, format=kind)
    contract = repository.lineage(done.name, 1).contract
    run = run_file(contract, repository.folder(done.name, 1) / contract.file_name)
    rows = np.array([[1, 2, 3, 4], [1, np.nan, 3, 4]], np.float32)
    np.testing.assert_array_equal(run([rows])[0], [[2, 4, 6, 8], [2, 10, 6, 8]])
    np.testing.assert_array_equal(run([rows[:1]])[0], [[2, 4, 6, 8]])


def test_what_depends_on_the_rows_and_cannot_be_kept_is_refused(repository, tmp_path):
    path = save_torch(tmp_path / "m", Unscriptable())
    refused(repository, path, "depends on its rows, which a trace would lose.*torch.where", trust=True)


def test_a_file_that_answers_otherwise_than_its_source_is_not_published(repository, tmp_path):
    class Branch(torch.nn.Module):
        def forward(self, x):
            # Tracing follows one branch only.
            return x * 2.0 if bool(x.sum() > 0) else x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save_torch(tmp_path / "branch", torch.jit.script(Branch()))
    # The ONNX exporter keeps the branch; a hand-made file that does not is caught.
    export(repository, path)
    from exporters.asked import probe_set
    from exporters.parity.comparison import compare_runs, require

    lineage = repository.lineage("branch", 1)
    source = torchscript.load(path / "data" / "model.pth", "branch")

    def right(arrays):
        return [source(torch.from_numpy(arrays[0])).numpy()]

    rows = probes.golden(lineage.contract, 64), probes.adversarial(lineage.contract, 32)
    found = compare_runs(
        lineage.contract, right, lambda a: [a[0] * np.float32(2)], probe_set(lineage.contract, *rows), where="file"
    )
    with pytest.raises(ParityError, match="actions flip|is allowed"):
        require(lineage.contract, found)
