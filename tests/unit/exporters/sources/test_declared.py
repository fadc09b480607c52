"""Models that do not tell their inputs, and what a person says of them."""

from __future__ import annotations

import json
import pickle
import warnings

import lightgbm
import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import xgboost
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from exporters.errors import ExportError, UnsafeArtefact
from exporters.export import export_model
from exporters.repository.repository import ModelRepository
from exporters.rows import read_rows
from exporters.sources.declared import parse_input
from exporters.sources.torch_modules import is_state_dict
from exporters.verify import verify
from tests.unit.exporters.models import options, times, write_times
from trading.features.definitions import FEATURE_VERSION
from trading.models.signature import TensorSpec

RNG = np.random.default_rng(4)
NUMBERS = RNG.normal(size=(200, 4))
LABELS = (NUMBERS[:, 0] > NUMBERS[:, 1]).astype(np.int64)
NAMES = ["age", "income", "debt", "score"]


@pytest.fixture
def repository(tmp_path):
    return ModelRepository(tmp_path / "models")


def export(repository, path, **given):
    given.setdefault("max_batch", 64)
    if "sample" in given:
        given["sample"] = path.with_name(given["sample"])
    given["inputs"] = tuple(map(parse_input, given.pop("declared", ())))
    return export_model(str(path), options(**given), repository, lambda _: None)


def refused(repository, path, says, error=ExportError, **given):
    with pytest.raises(error, match=says):
        export(repository, path, **given)
    assert repository.names() == []


class Two(torch.nn.Module):
    """Two inputs of different kinds, and two answers with names."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(10, 3)
        self.mix = torch.nn.Linear(4 + 3, 2)

    def forward(self, prices, venue):
        mixed = self.mix(torch.cat([prices, self.table(venue[:, 0])], dim=1))
        return mixed, mixed.sum(dim=1)


def saved(path, module, *rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module.eval(), rows).save(str(path))
    return path


@pytest.fixture
def linear(tmp_path):
    return saved(tmp_path / "linear.pt", torch.nn.Linear(4, 2), torch.ones(3, 4))


@pytest.fixture
def two(tmp_path):
    return saved(tmp_path / "two.pt", Two(), torch.ones(3, 4), torch.ones(3, 1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x:FP32[4]", TensorSpec("x", (4,), "FP32")),
        ("image:uint8[3, 224,224]", TensorSpec("image", (3, 224, 224), "UINT8")),
        ("x:TYPE_INT64[-1,2]", TensorSpec("x", (2,), "INT64")),
        ("x:float64", TensorSpec("x", (1,), "FP64")),
        ("x:bool[]", TensorSpec("x", (1,), "BOOL")),
        ("serving:x:int8[1]", TensorSpec("serving:x", (1,), "INT8")),
    ],
)
def test_an_input_is_declared_by_name_type_and_shape(text, wanted):
    assert parse_input(text) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected NAME:DTYPE"), ("x", "expected NAME:DTYPE"), ("x:FP32[4", "expected NAME:DTYPE"),
        (":FP32[4]", "expected NAME:DTYPE"), ("x:FP31[4]", "'FP31' is no dtype"), ("x:object[4]", "is no dtype"),
        ("x:datetime64[4]", "is no dtype"), ("x:FP32[0]", "one length"), ("x:FP32[4,-1]", "one length"),
        ("x:FP32[--1]", "whole numbers"), ("x:FP32[4,]", "whole numbers"),
        ("x:FP32[99999999999]", "more than 1,024 MiB"), ("x:FP32[-1,-1]", "one length"),
    ],
)  # fmt: skip
def test_what_declares_no_input_is_named(text, says):
    with pytest.raises(ExportError, match=says):
        parse_input(text)


def test_torchscript_without_a_signature_says_how_to_give_one(repository, linear):
    refused(repository, linear, r"has no signature.*--sample FILE.*--input NAME:DTYPE\[SHAPE\].*set_signature")


def test_it_is_exported_with_inputs_that_are_declared(repository, linear):
    done = export(repository, linear, declared=["rows:FP32[4]"])
    assert (done.inputs, done.outputs) == ("rows FP32 [4]", "output FP32 [2]")
    report = verify("linear", 1, repository, None, "", lambda _: None)
    assert report.passed


def test_a_sample_tells_them_and_they_have_the_arguments_names(repository, linear, tmp_path):
    np.save(tmp_path / "rows.npy", NUMBERS)
    done = export(repository, linear, sample="rows.npy")
    assert (done.inputs, done.outputs) == ("input FP32 [4]", "output FP32 [2]")
    golden = repository.golden(repository.lineage("linear", 1).contract, 1)[0][0]
    assert np.isclose(golden, np.float32(NUMBERS[:1])).all(axis=1).any()


def test_several_inputs_and_answers(repository, two, tmp_path):
    np.savez(tmp_path / "rows.npz", prices=NUMBERS, venue=np.arange(200) % 10)
    done = export(repository, two, sample="rows.npz")
    assert done.inputs == "prices FP32 [4], venue INT64 [1]"
    assert done.outputs == "output_0 FP32 [2], output_1 FP32 [1]"
    assert verify("two", 1, repository, None, "", lambda _: None).passed
    done = export(repository, two, declared=["prices:FP32[4]", "venue:INT64[1]"], sample="rows.npz")
    assert done.version == 2


def test_arguments_in_another_order_are_refused(repository, two, tmp_path):
    np.savez(tmp_path / "rows.npz", venue=np.arange(200) % 10, prices=NUMBERS)
    refused(repository, two, "prices, venue, in this order", declared=["venue:INT64[1]", "prices:FP32[4]"])
    # Rows are told apart by their names, and a model by what it runs on: as many as they are, it does not.
    refused(repository, two, "prices, venue, in this order", sample="rows.npz")
    same = saved(tmp_path / "same.pt", Minus(), torch.ones(3, 4), torch.ones(3, 4))
    refused(repository, same, "takes a, b, in this order", declared=["b:FP32[4]", "a:FP32[4]"])


def test_names_that_a_person_gives_are_kept_whatever_they_begin_with(repository, tmp_path):
    masked = saved(tmp_path / "masked.pt", Masked(), torch.ones(3, 4), torch.ones(3, 4))
    refused(repository, masked, "takes input_ids, input_mask, in this order",
            declared=["input_mask:FP32[4]", "input_ids:FP32[4]"])  # fmt: skip
    done = export(repository, masked, declared=["input_ids:FP32[4]", "input_mask:FP32[4]"])
    assert done.inputs == "input_ids FP32 [4], input_mask FP32 [4]"
    assert export(repository, masked, declared=["input_a:FP32[4]", "input_b:FP32[4]"]).inputs.startswith("input_a")


class Masked(torch.nn.Module):
    def forward(self, input_ids, input_mask):
        return input_ids * input_mask


class Half(torch.nn.Module):
    def forward(self, x):
        return (x * 2.0).to(torch.bfloat16)


def test_answers_that_cannot_be_served_are_a_sentence(repository, tmp_path):
    half = saved(tmp_path / "half.pt", Half(), torch.ones(3, 4))
    refused(repository, half, "output is torch.bfloat16, which cannot be served", declared=["x:FP32[4]"])
    number = torch.jit.script(Number())
    number.save(str(tmp_path / "number.pt"))
    refused(repository, tmp_path / "number.pt", "forward answers with float", declared=["x:FP32[4]"])


class Number(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> float:
        return float(x.sum())


def test_a_file_of_a_model_of_ours_has_its_contract_and_is_verified_again(repository, tmp_path):
    path = saved(tmp_path / "regime_detection.pt", Regimes(), torch.ones(3, 32))
    np.save(tmp_path / "rows.npy", RNG.normal(size=(100, 32)))
    for given in ({}, {"declared": ["features:FP32[32]"]}, {"sample": "rows.npy"}):
        done = export(repository, path, **given)
        assert (done.inputs, done.outputs) == ("features FP32 [32]", "regime_probabilities FP32 [3]")
        assert repository.lineage("regime_detection", done.version).contract.feature_version == FEATURE_VERSION
        assert verify("regime_detection", done.version, repository, None, "", lambda _: None).passed
    with pytest.raises(ExportError, match=r"inputs are features FP32 \[4\], the gateway's contract says"):
        export(repository, path, declared=["features:FP32[4]"])


class Regimes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Linear(32, 3)

    def forward(self, features):
        return torch.softmax(self.mix(features), dim=1)


class Minus(torch.nn.Module):
    def forward(self, a, b):
        return a - b


def test_rows_that_do_not_fit_the_model_say_so(repository, linear, two, tmp_path):
    np.save(tmp_path / "wide.npy", np.ones((9, 5)))
    refused(repository, linear, "does not run on rows of input FP32 .5.: .*mat1 and mat2", sample="wide.npy")
    refused(repository, linear, r"shape \[9, 5\], and the model takes FP32 \[rows, 4\]",
            sample="wide.npy", declared=["x:FP32[4]"])  # fmt: skip
    refused(repository, two, "forward takes prices, venue", sample="wide.npy")
    refused(repository, linear, "declares 'x' twice", declared=["x:FP32[4]", "x:FP32[4]"])


def test_whole_numbers_stay_whole_and_others_are_refused_for_them(repository, two, tmp_path):
    np.savez(tmp_path / "rows.npz", prices=NUMBERS, venue=NUMBERS[:, 0])
    refused(repository, two, "venue is to be int64, and holds other numbers", sample="rows.npz",
            declared=["prices:FP32[4]", "venue:INT64[1]"])  # fmt: skip


def test_an_onnx_files_open_axes_are_fixed_by_either(repository, tmp_path):
    model = times(2.0, width=4)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[1].dim_param = "width"
    onnx.save(model, tmp_path / "free.onnx")
    refused(repository, tmp_path / "free.onnx", "--sample FILE")
    np.save(tmp_path / "rows.npy", NUMBERS)
    assert export(repository, tmp_path / "free.onnx", sample="rows.npy").inputs == "x FP32 [4]"
    assert export(repository, tmp_path / "free.onnx", declared=["x:FP32[6]"]).inputs == "x FP32 [6]"
    assert verify("free", 2, repository, None, "", lambda _: None).passed
    with pytest.raises(ExportError, match="inputs are y FP32"):
        export(repository, tmp_path / "free.onnx", declared=["y:FP32[6]"])


def test_a_state_dict_is_called_one(repository, tmp_path):
    module = torch.nn.Linear(4, 2)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    torch.save({"epoch": 3, "model": module.state_dict()}, tmp_path / "checkpoint.pt")
    torch.save(module, tmp_path / "pickled.pt")
    refused(repository, tmp_path / "weights.pt", "is a state dict.*load_state_dict")
    assert [is_state_dict(tmp_path / name) for name in ("checkpoint.pt", "pickled.pt")] == [True, False]
    refused(repository, tmp_path / "pickled.pt", "is a pickled PyTorch module", UnsafeArtefact)
    assert export(repository, tmp_path / "pickled.pt", trust=True, declared=["x:FP32[4]"]).inputs == "x FP32 [4]"


def test_a_plain_exported_program(repository, tmp_path):
    batch = torch.export.Dim("batch")
    program = torch.export.export(torch.nn.Linear(4, 2), (torch.ones(3, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "program.pt2")
    assert export(repository, tmp_path / "program.pt2", declared=["input:FP32[4]"]).outputs == "output FP32 [2]"


def frame(path, columns=NAMES, **how):
    pd.DataFrame(NUMBERS, columns=columns).to_csv(path, index=False, **how)


def test_a_scikit_learn_model_without_a_signature_knows_how_wide_it_is(repository, tmp_path):
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(pd.DataFrame(NUMBERS, columns=NAMES), LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model, str(tmp_path / "m"), serialization_format="skops", pip_requirements=["scikit-learn"]
        )
    frame(tmp_path / "other.csv", NAMES[::-1])
    refused(repository, tmp_path / "m", "columns in another order: number 1 is 'score'", sample="other.csv")
    done = export(repository, tmp_path / "m", as_columns=True, name="wide")
    assert done.inputs.startswith("age FP32 [1], income FP32 [1]")
    assert verify("wide", 1, repository, None, "", lambda _: None).passed


def test_tables_are_read_from_whatever_they_lie_in(tmp_path):
    table = pd.DataFrame(NUMBERS, columns=NAMES)
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.to_parquet(tmp_path / "rows.parquet")
    np.save(tmp_path / "rows.npy", NUMBERS)
    for suffix, columns in ((".csv", tuple(NAMES)), (".parquet", tuple(NAMES)), (".npy", ())):
        found = read_rows(tmp_path / f"rows{suffix}")
        assert found.columns == columns
        assert np.allclose(found.arrays[""], NUMBERS)


def test_a_pickled_estimator_in_a_file(repository, tmp_path):
    with (tmp_path / "model.pkl").open("wb") as file:
        pickle.dump(LogisticRegression().fit(NUMBERS, LABELS), file)
    refused(repository, tmp_path / "model.pkl", "is a pickle", UnsafeArtefact)
    np.save(tmp_path / "rows.npy", NUMBERS)
    done = export(repository, tmp_path / "model.pkl", trust=True, sample="rows.npy")
    assert (done.inputs, done.outputs) == ("input FP32 [4]", "label INT64 [1], probabilities FP32 [2]")


def test_a_table_that_was_declared_is_verified_as_it_was(repository, tmp_path):
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(NUMBERS, LABELS)
    with (tmp_path / "bare.pkl").open("wb") as file:
        pickle.dump(model, file)
    frame(tmp_path / "rows.csv")
    done = export(repository, tmp_path / "bare.pkl", trust=True, sample="rows.csv", as_columns=True)
    assert done.inputs.startswith("age FP32 [1], income FP32 [1]")
    assert repository.lineage("bare", 1).columns == tuple(NAMES)
    frame(tmp_path / "other.csv", NAMES[::-1])
    report = verify("bare", 1, repository, None, "", lambda _: None, trust=True, rows=tmp_path / "other.csv")
    assert report.passed
    matrix = export(repository, tmp_path / "bare.pkl", trust=True, sample="rows.csv", name="matrix")
    assert matrix.inputs == "input FP32 [4]"
    with pytest.raises(ExportError, match="has no column 'age', which the model was trained on"):
        frame(tmp_path / "others.csv", ["a", "b", "c", "d"])
        verify("matrix", 1, repository, None, "", lambda _: None, trust=True, rows=tmp_path / "others.csv")


def test_a_table_is_served_in_double_only_where_that_is_asked_for(repository, tmp_path):
    with (tmp_path / "model.pkl").open("wb") as file:
        pickle.dump(LogisticRegression().fit(NUMBERS, LABELS), file)
    for dtype in ("FP64", "INT64"):
        refused(repository, tmp_path / "model.pkl", f"declares x {dtype}.*FP64 with --precision fp64", trust=True,
                declared=[f"x:{dtype}[4]"])  # fmt: skip
    done = export(repository, tmp_path / "model.pkl", trust=True, declared=["x:FP64[4]"], precision="fp64")
    assert done.inputs == "x FP64 [4]"


def test_boosters_of_their_own_files(repository, tmp_path):
    xgboost.train({"max_depth": 2}, xgboost.DMatrix(NUMBERS, LABELS), 4).save_model(tmp_path / "x.ubj")
    lightgbm.train({"verbose": -1}, lightgbm.Dataset(NUMBERS, LABELS), 4).save_model(tmp_path / "l.txt")
    for name in ("x.ubj", "l.txt"):
        assert export(repository, tmp_path / name).inputs == "input FP32 [4]"


def logged(folder, example):
    """A network without a signature, and with an input example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pytorch.save_model(
            saved_module(), str(folder), serialization_format="pickle", pip_requirements=["torch"],
            input_example=NUMBERS[:5].astype(np.float32), signature=False,
        )  # fmt: skip
    (folder / "input_example.json").write_text(json.dumps(example))
    return folder


def test_an_input_example_of_mlflows_tells_them_too(repository, tmp_path):
    for name, example in (("list", {"inputs": NUMBERS[:5].tolist()}), ("plain", NUMBERS[:5].tolist())):
        assert export(repository, logged(tmp_path / name, example)).inputs == "input FP32 [4]"


def test_what_a_person_says_goes_before_an_example_that_was_logged(repository, tmp_path):
    folder = logged(tmp_path / "whole", [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert export(repository, folder, declared=["x:FP32[4]"]).inputs == "x FP32 [4]"
    np.save(tmp_path / "rows.npy", NUMBERS)
    assert export(repository, folder, sample="rows.npy").version == 2
    assert verify("whole", 1, repository, None, "", lambda _: None).passed


def test_an_example_that_fits_nothing_is_no_hindrance(repository, tmp_path):
    folder = tmp_path / "onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.onnx.save_model(
            times(2.0), str(folder), input_example=NUMBERS[:3].astype(np.float32), signature=False
        )
    for example in ({"inputs": {"other": [[1, 2]]}}, [1, 2, 3], [["a"]], {"inputs": {}}):
        (folder / "input_example.json").write_text(json.dumps(example))
        assert export(repository, folder).inputs == "x FP32 [4]"


def saved_module():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(torch.nn.Linear(4, 2), torch.ones(3, 4))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"), ("a,b\n", "holds no row"), ("a,b\n1,x\n", "column 'b' is .*, no number"),
        (",a\n0,1\n", "a column has no name of its own.*index=False"), ("a,b\n1,2\n3,4,5,6\n", "cannot be read"),
        ("\xff\xfe", "cannot be read"),
    ],
)  # fmt: skip
def test_tables_that_are_none_are_named(repository, linear, tmp_path, text, says):
    (tmp_path / "rows.csv").write_bytes(text.encode("latin-1"))
    refused(repository, linear, says, sample="rows.csv")


def test_a_table_without_a_heading_keeps_its_first_row(repository, linear, tmp_path):
    (tmp_path / "rows.csv").write_text("1.5,2,2,4\n5,6,7,8\n")
    assert export(repository, linear, sample="rows.csv").inputs == "input FP32 [4]"
    golden = repository.golden(repository.lineage("linear", 1).contract, 1)[0][0]
    assert (golden == np.float32([1.5, 2, 2, 4])).all(axis=1).any()


def test_a_declaration_that_contradicts_a_signature_is_refused(repository, tmp_path):
    folder = tmp_path / "m"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = NUMBERS[:3].astype(np.float32)
        mlflow.onnx.save_model(times(2.0), str(folder), signature=infer_signature(rows, rows))
    refused(repository, folder, "has a signature, which says", declared=["x:FP64[4]"])
    assert export(repository, write_times(tmp_path / "double.onnx", 2.0), declared=["x:FP32[4]"]).version == 1
