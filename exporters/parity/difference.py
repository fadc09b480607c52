"""`export diff`: two published versions of a model, side by side."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
from msgspec import Struct

from exporters import probes
from exporters.formats import graph, onnx
from exporters.parity import comparison
from exporters.parity.decisions import Task, task_of
from exporters.repository.lineage import Lineage
from exporters.repository.repository import ModelRepository
from exporters.sources.running import run_file

#: Differ in every version, and say nothing.
UNTOLD = ("version", "files", "time")


class Changed(Struct, frozen=True):
    """A thing that differs."""

    what: str
    a: str
    b: str


class Diff(Struct, frozen=True):
    """What differs; the outputs' largest difference and the actions that flip are over golden rows."""

    model: str
    a: int
    b: int
    changed: list[Changed]
    max_abs_diff: float
    flip_rate: float
    rows: int
    task: Task = "action"
    rank_correlation: float | None = None


def diff(repository: ModelRepository, name: str, a: int, b: int) -> Diff:
    """Compare lineage, graph, weights and answers of two versions. Raises ExportError."""
    first, second = (repository.verified_lineage(name, v) for v in (a, b))
    changed = described(first, second) + graphs(repository, first, second)
    if first.contract.backend == "ensemble" or first.contract != second.contract:
        found = golden(repository, first, second)
    else:
        rows = probes.golden(second.contract, min(1024, second.contract.max_batch_size))
        runs = [
            run_file(line.contract, repository.folder(name, line.version) / line.contract.file_name)
            for line in (first, second)
        ]
        found = comparison.compare(first.contract, runs[0](rows), runs[1](rows), where="file", rows="golden")
    rows_compared = sum(f.of for f in found.flips)
    return Diff(
        name, a, b, changed, found.max_abs, found.flip_rate, rows_compared, task_of(second.contract),
        found.rank_correlation,
    )  # fmt: skip


def golden(repository: ModelRepository, first: Lineage, second: Lineage) -> comparison.ParityComparison:
    """The sources' stored answers; nothing where the tensors differ."""
    if first.contract.outputs != second.contract.outputs:
        return comparison.ParityComparison([], [])
    a, b = (repository.golden(line.contract, line.version)[1] for line in (first, second))
    return comparison.compare(first.contract, a, b, where="file", rows="golden")


def described(first: Lineage, second: Lineage) -> list[Changed]:
    """Fields of the lineage that differ."""
    a, b = (msgspec.to_builtins(x) for x in (first, second))
    found = []
    for key in a:
        if key in UNTOLD or a[key] == b[key]:
            continue
        if isinstance(a[key], dict):
            inner = sorted({*a[key], *b[key]})
            found += [
                Changed(f"{key}.{k}", str(a[key].get(k, "absent")), str(b[key].get(k, "absent")))
                for k in inner
                if a[key].get(k) != b[key].get(k)
            ]
        else:
            found.append(Changed(key, str(a[key]), str(b[key])))
    return found


def graphs(repository: ModelRepository, first: Lineage, second: Lineage) -> list[Changed]:
    """Operators and weights of two ONNX files."""
    if not first.contract.backend == second.contract.backend == "onnxruntime":
        return []
    a, b = (
        onnx.load(repository.folder(x.contract.name, x.version) / x.contract.file_name) for x in (first, second)
    )
    ops = [Counter(n.op_type for n in m.graph.node) for m in (a, b)]
    found = [
        Changed(f"operator {op}", str(ops[0][op]), str(ops[1][op]))
        for op in sorted(ops[0] | ops[1])
        if ops[0][op] != ops[1][op]
    ]
    weights = [graph.weights(m) for m in (a, b)]
    for name in sorted({*weights[0], *weights[1]}):
        x, y = (w.get(name) for w in weights)
        if x is None or y is None or x.shape != y.shape:
            shapes = ["absent" if w is None else str(list(w.shape)) for w in (x, y)]
            found.append(Changed(f"weight {name}", *shapes))
        elif x.dtype.kind == "f" and not np.array_equal(x, y):
            with np.errstate(invalid="ignore"):
                moved = float(np.nanmax(np.abs(x.astype(np.float64) - y)))
            found.append(Changed(f"weight {name}", f"{list(x.shape)}", f"moved by up to {moved:.3g}"))
    return found
