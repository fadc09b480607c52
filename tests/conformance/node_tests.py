"""ONNX's own tests of each operator as models to be exported: their first axis is freed where all tensors share it."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from exporters.conversion import convert
from exporters.errors import ExportError
from exporters.profiles import find
from exporters.sources import references
from exporters.sources.opened import opened
from exporters.sources.running import run_file
from tests.unit.exporters.models import options

#: Not read by a server: how a network is trained.
TRAINING = ("ai.onnx.preview.training",)


@dataclass
class Found:
    """What became of the tests."""

    read: int = 0
    batches: int = 0
    served: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    runtime: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        most = ", ".join(f"{n} {why}" for why, n in self.refused.most_common(12))
        return (
            f"{self.read} of the tests are of opsets that the container reads; {self.batches} can be batches; "
            f"{len(self.served)} are served and answer as the test says, {len(self.runtime)} as ONNX Runtime does "
            f"where it does not; refused: {most}; wrong: {self.wrong}"
        )


def run(every: int = 1) -> Found:
    """Export one of so many, and ask the file what the test asks."""
    found = Found()
    for case in islice(cases(), 0, None, every):
        found.read += 1
        with tempfile.TemporaryDirectory() as folder:
            asked = export(case, Path(folder), found)
            if asked is not None:
                judge(case, *asked, found)
    return found


def cases() -> Iterator[Any]:
    """Those whose opset the container reads."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        collected = collect_testcases()
    container = find("25.03-py3")
    for case in collected:
        versions = {i.domain: i.version for i in case.model.opset_import}
        if versions.get("", 0) > container.max_onnx_opset or set(versions) & set(TRAINING):
            continue
        if versions.get("ai.onnx.ml", 0) <= container.max_onnx_ml_opset:
            yield case


def freed(model: Any) -> tuple[Any, bool]:
    """The model with a free first axis, and whether all its tensors share one."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.ir_version = min(made.ir_version, 10)
    first = set()
    for value in (*made.graph.input, *made.graph.output):
        dims = value.type.tensor_type.shape.dim if value.type.WhichOneof("value") == "tensor_type" else ()
        first.add(dims[0].dim_value if len(dims) else None)
        if len(dims):
            dims[0].dim_param = "n"
    return made, len(first) == 1 and None not in first


def export(case: Any, folder: Path, found: Found) -> tuple[Any, Path] | None:
    """The contract and the file; None for what is refused."""
    model, is_batch = freed(case.model)
    found.batches += is_batch
    onnx.save(model if is_batch else case.model, folder / "node.onnx")
    (folder / "staged").mkdir()
    try:
        with ExitStack() as stack:
            origin = references.fetch("", str(folder / "node.onnx"), folder)
            source = stack.enter_context(opened(origin, folder, max_batch=8))
            contract = convert(source, folder / "staged", options(max_batch=8), lambda _: None).lineage.contract
    except ExportError as error:
        found.refused[reason(str(error))] += 1
        return None
    return contract, folder / "staged" / contract.file_name


REASONS = (
    "the batch axis", "is a scalar", "one number a row", "is a sequence", "only numbers and booleans",
    "answers a row otherwise", "does not run", "does not answer", "differs by", "has no tensor type", "has no shape",
    "ONNX Runtime refuses", "the signature says", "the same rows alike", "answers no", "opset", "that are finite",
    "is no ONNX model", "share the name", "rows are served at one length", "is a optional", "is a sparse_tensor",
)  # fmt: skip


def reason(sentence: str) -> str:
    """The kind of a refusal."""
    return next((why for why in REASONS if why in sentence), sentence[:200])


def judge(case: Any, contract: Any, path: Path, found: Found) -> None:
    """Ask what the test asks; some ask for one row, and some for many."""
    ask = run_file(contract, path)
    session = onnxruntime.InferenceSession(case.model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [t.name for t in contract.inputs]
    for inputs, outputs in case.data_sets:
        given = [np.asarray(a).reshape(len(a), *t.dims) for a, t in zip(inputs, contract.inputs, strict=True)]
        if not agree(case, ask(given), outputs):
            as_it_is = session.run(None, dict(zip(names, inputs, strict=True)))
            (found.wrong if agree(case, as_it_is, outputs) else found.runtime).append(case.name)
            return
    found.served.add(case.name)


def agree(case: Any, got: list[Any], outputs: list[Any]) -> bool:
    """Whether answers are the test's."""
    return all(
        np.allclose(a.reshape(np.shape(b)), b, rtol=case.rtol, atol=case.atol, equal_nan=True)
        for a, b in zip(got, map(np.asarray, outputs), strict=True)
    )
