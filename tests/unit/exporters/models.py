"""Small models for tests: built here, so that their right answers are known."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters.export import export_model
from exporters.formats import trees
from exporters.options import Options
from exporters.profiles import find, find_gpu


def times(factor, *, width=4, batch="batch", opset=18, ir=10, dtype=TensorProto.FLOAT):
    """y = factor * x as an ONNX model; one factor, or one a column."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph(
        [node],
        "times",
        [helper.make_tensor_value_info("x", dtype, [batch, width])],
        [helper.make_tensor_value_info("y", dtype, [batch, width])],
        [numpy_helper.from_array(np.atleast_1d(factor).astype(helper.tensor_dtype_to_np_dtype(dtype)), "factor")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def write_times(path, factor, **given):
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(times(factor, **given), path)
    return path


def options(**given):
    return Options("http://127.0.0.1:9", find("25.03-py3"), find_gpu("rtx5070"), **given)


def publish_times(repository, folder, factor, name="times", **given):
    """Publish y = factor * x; returns the version."""
    path = write_times(folder / f"{factor}" / "model.onnx", factor)
    given.setdefault("max_batch", 64)
    return export_model(str(path), options(name=name, **given), repository, lambda _: None).version


def around_splits(path, like):
    """Rows like one, float32 [columns]: at each split of a file's trees, and at the numbers on either side."""
    splits = trees.thresholds(onnx.load(path))
    rows = np.tile(like, (3 * len(splits), 1))
    for k, (column, value) in enumerate(splits):
        near = np.float32(value)
        ends = (np.float32(-np.inf), np.float32(np.inf))
        with np.errstate(over="ignore"):
            rows[3 * k : 3 * k + 3, column] = (np.nextafter(near, ends[0]), near, np.nextafter(near, ends[1]))
    return rows
