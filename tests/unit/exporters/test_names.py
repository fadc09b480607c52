"""Whoever wrote a model chose its tensors' names: none of them is ever used as a path."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from exporters.errors import ExportError
from exporters.export import export_model
from exporters.formats.config_pbtxt import PLAIN, warm_up_file
from exporters.repository.repository import ModelRepository
from exporters.verify import verify
from tests.unit.exporters.models import options, times
from trading.models.signature import TensorSpec


def renamed(tensor, *, output="y"):
    model = times(2.0)
    model.graph.input[0].name = model.graph.node[0].input[0] = tensor
    model.graph.output[0].name = model.graph.node[0].output[0] = output
    return model


@pytest.mark.parametrize(
    "name",
    ["{0}/canary", "../../canary", "../canary", "model/input", ".", "..", "a\\b", "x" * 300, "x:0", "~", "\n"],
)
@pytest.mark.parametrize("end", ["input", "output"])
def test_a_tensors_name_is_never_a_path(tmp_path, name, end):
    tensor = name.format(tmp_path)
    canary = tmp_path / "canary"
    canary.write_bytes(b"untouched")
    source = tmp_path / "model.onnx"
    onnx.save(renamed(tensor) if end == "input" else renamed("x", output=tensor), source)
    repository = ModelRepository(tmp_path / "here" / "models")
    done = export_model(str(source), options(max_batch=8, name="named"), repository, lambda _: None)
    assert done.version == 1
    assert canary.read_bytes() == b"untouched"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["canary", "here", "model.onnx"]
    folder = repository.root / "named"
    assert sorted(p.name for p in folder.iterdir()) == ["1", "config.pbtxt", "configs", "warmup"]
    (warm,) = (folder / "warmup").iterdir()
    spec = repository.lineage("named", 1).contract.inputs[0]
    assert spec.name == (tensor if end == "input" else "x")
    assert warm.name == warm_up_file(spec)
    assert f'input_data_file: "{warm.name}"' in (folder / "config.pbtxt").read_text()
    with np.load(folder / "1" / "golden.npz") as stored:
        assert stored.files == ["in_0", "out_0"]
    assert verify("named", 1, repository, None, "", lambda _: None).passed
    # A later version, with rows written anew, goes the same way.
    assert export_model(str(source), options(max_batch=8, name="named"), repository, lambda _: None).version == 2
    repository.configure(repository.lineage("named", 2).contract, repository.serving("named"), refresh=True)
    assert canary.read_bytes() == b"untouched"


def test_files_of_different_tensors_differ_and_plain_names_stay():
    names = ["features", "a/b", "a_b", "a:b", "..", "x" * 101, "x" * 102, "x" * 100]
    files = [warm_up_file(TensorSpec(name, (1,))) for name in names]
    assert len(set(files)) == len(names)
    assert files[0] == "features"
    assert [f == n for f, n in zip(files, names, strict=True)] == [bool(PLAIN.fullmatch(n)) for n in names]
    assert not any("/" in f or len(f) > 100 for f in files)


def test_golden_rows_of_versions_with_the_tensors_names_are_still_read(tmp_path):
    repository = ModelRepository(tmp_path / "models")
    onnx.save(times(2.0), tmp_path / "model.onnx")
    export_model(str(tmp_path / "model.onnx"), options(max_batch=8, name="named"), repository, lambda _: None)
    contract = repository.lineage("named", 1).contract
    asked, wanted = repository.golden(contract, 1)
    np.savez(repository.folder("named", 1) / "golden.npz", in_x=asked[0], out_y=wanted[0])
    again = repository.golden(contract, 1)
    np.testing.assert_array_equal(again[0][0], asked[0])
    np.testing.assert_array_equal(again[1][0], wanted[0])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
def test_golden_rows_that_were_spoilt_are_a_sentence(tmp_path, content):
    repository = ModelRepository(tmp_path / "models")
    onnx.save(times(2.0), tmp_path / "model.onnx")
    export_model(str(tmp_path / "model.onnx"), options(max_batch=8, name="named"), repository, lambda _: None)
    (repository.folder("named", 1) / "golden.npz").write_bytes(content)
    with pytest.raises(ExportError, match="golden.npz cannot be read"):
        repository.golden(repository.lineage("named", 1).contract, 1)
