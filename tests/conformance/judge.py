"""Export a row's model, and compare the file with the library's own answers; the exporter's comparison isn't used."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from msgspec.structs import replace

from exporters.conversion import convert
from exporters.errors import ExportError
from exporters.sources import references
from exporters.sources.opened import opened
from exporters.sources.running import run_file
from tests.conformance.cases import Case, Exact, Model, Within
from tests.conformance.hostile import rows_for
from tests.unit.exporters.models import options

LARGEST = 64


class Refusal(Exception):
    """The exporter's sentence."""


def exported(case: Case, model: Model, folder: Path, process: Any) -> tuple[Path, Any]:
    """The file that would be published, and its signature. Raises Refusal."""
    given = options(max_batch=LARGEST, trust=True, **case.arguments)
    reference, staged, home = folder / "logged", folder / "staged", folder / "home"
    staged.mkdir()
    home.mkdir()
    model.save(reference)
    if not reference.exists():
        reference = next(folder.glob("logged.*"))
    try:
        with ExitStack() as stack:
            origin = replace(references.fetch("", str(reference), folder), name="conformance")
            precision = case.arguments.get("precision", "fp32")
            source = stack.enter_context(
                opened(
                    origin,
                    home,
                    trust=True,
                    max_batch=LARGEST,
                    precision=precision,
                    process=process,
                    as_columns=case.arguments.get("as_columns", False),
                    tracer_warnings=case.arguments.get("tracer_warnings", ()),
                )
            )
            done = convert(source, staged, given, lambda _: None)
    except ExportError as error:
        raise Refusal(str(error)) from error
    return staged / done.lineage.contract.file_name, done.lineage.contract


def check(case: Case, model: Model, path: Path, contract: Any, run: Any = None) -> float:
    """Raise AssertionError where the file answers otherwise than the case says; returns the largest share seen.

    `run` asks the model where it is served, instead of the file.
    """
    run, worst = run or run_file(contract, path), 0.0
    usually = [usual(a) for a in model.answers(model.rows)]
    known = [a.astype(np.float64) if contract.inputs[0].dtype == "FP64" else a for a in model.rows]
    for kind, rows in rows_for(known, path, fractions=model.fractions).items():
        wanted = answers(model, kind, rows)
        if wanted is None:
            continue
        got = in_batches(run, as_served(rows, contract))
        moves = moved(model, kind, rows, wanted) if kind in {"extreme", "splits"} else [0.0] * len(wanted)
        worst = max(worst, compare(case, kind, wanted, got, usually, moves))
    return worst


def as_served(rows: list[Any], contract: Any) -> list[Any]:
    """In the served types and shapes; of a table that is served column by column, its columns."""
    if len(rows) == 1 and len(contract.inputs) > 1:
        rows = list(np.hsplit(rows[0], len(contract.inputs)))
    return [a.astype(np_type(t)).reshape(len(a), *t.dims) for a, t in zip(rows, contract.inputs, strict=True)]


def np_type(spec: Any) -> Any:
    return {"FP32": np.float32, "FP64": np.float64, "FP16": np.float16, "INT64": np.int64, "INT32": np.int32,
            "BOOL": np.bool_, "INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16}[spec.dtype]  # fmt: skip


def answers(model: Model, kind: str, rows: list[Any]) -> list[Any] | None:
    """The library's own; None for rows of a kind that it refuses."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return model.answers(rows)
        except Exception:  # noqa: BLE001 - any library, any model
            assert kind not in {"known", "one", "mixed"}
            return None


def in_batches(run: Any, rows: list[Any]) -> list[Any]:
    parts = [run([a[k : k + LARGEST] for a in rows]) for k in range(0, len(rows[0]), LARGEST)]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def compare(case: Case, kind: str, wanted: list[Any], got: list[Any], usually: list[float], moves: Any) -> float:
    """Output by output; what moves by itself on rows that mean nothing is not held against the file."""
    assert len(wanted) == len(got), f"{len(got)} outputs for {len(wanted)}"
    tied, worst = ties(wanted), 0.0
    for k, (source, served) in enumerate(zip(wanted, got, strict=True)):
        a = np.asarray(source).reshape(len(source), -1)
        b = served.reshape(len(served), -1)
        where = f"{case.name}: output {k}, {kind} rows"
        if a.dtype.kind in "iub":
            wrong = (a != b).any(axis=1) & ~tied & ~np.any(moves[k], axis=-1)
            assert not wrong.any(), f"{where}: {wrong.sum()} of {len(a)} are another class"
            continue
        with np.errstate(over="ignore"):
            a = a.astype(b.dtype).astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if isinstance(case.ends, Exact):
            same |= a.astype(b.dtype) == b
            assert same.all(), f"{where}: {(~same).any(axis=1).sum()} of {len(a)} differ"
            continue
        with np.errstate(invalid="ignore"):
            apart = np.maximum(np.where(same, 0.0, np.abs(a - b)) - moves[k], 0.0) / scale(a, kind, usually[k])
        apart = np.where(np.isnan(apart), np.inf, apart)
        row = int(apart.max(axis=1).argmax())
        worst = max(worst, float(apart.max(initial=0.0)))
        share = case.ends.share if isinstance(case.ends, Within) else 0.0
        assert worst <= share, f"{where}: row {row} is {b[row][:4]}, the source says {a[row][:4]}"
    return worst


def usual(answers: Any) -> float:
    """The median of the numbers that are not zero."""
    sizes = np.abs(np.asarray(answers, float))
    return float(np.median(sizes[np.isfinite(sizes) & (sizes > 0)])) if (sizes > 0).any() else 1.0


def scale(wanted: Any, kind: str, usually: float) -> Any:
    """What a difference is a share of: the row's largest number, or the usual one where that is more."""
    finite = np.where(np.isfinite(wanted), np.abs(wanted), 0.0)
    if kind == "extreme":
        return finite.max(initial=usually)
    return np.maximum(finite.max(axis=1, keepdims=True), usually)


def moved(model: Model, kind: str, rows: list[Any], wanted: list[Any]) -> list[Any]:
    """How far the source's own answers move with what means nothing: rows that nobody sends, by some units in float32's
    last place; rows at a split, to whatever double they are the nearest float32 of.
    """
    most = [np.zeros((len(a), 1)) for a in wanted]
    apart = np.where(np.arange(rows[0].shape[1]) % 2, 1.0, -1.0)
    for way in (1.0, -1.0, apart, -apart):
        near = [(a * (1 + 5e-7 * way)).astype(a.dtype) for a in rows]
        if kind == "splits":
            ends = (np.inf * np.sign(way)).astype(np.float32) if np.ndim(way) else np.float32(np.inf * way)
            beside = [np.nextafter(a.astype(np.float32), ends).astype(np.float64) for a in rows]
            near = [a + 0.499 * np.where(np.isfinite(b), b - a, 0.0) for a, b in zip(rows, beside, strict=True)]
        for k, nearby in enumerate(answers(model, kind, near) or []):
            x, y = (np.asarray(v, float).reshape(len(most[k]), -1) for v in (nearby, wanted[k]))
            with np.errstate(invalid="ignore"):
                moving = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
            moving = np.where(np.isnan(moving), np.inf, moving)
            most[k] = np.maximum(most[k], moving.max(axis=1, keepdims=True))
    return most


def ties(wanted: list[Any]) -> Any:
    """Rows whose two largest probabilities are equal but for rounding: either class will do."""
    wide = [np.asarray(a) for a in wanted if np.asarray(a).dtype.kind == "f" and np.asarray(a)[0].size > 1]
    if not wide:
        return np.zeros(len(wanted[0]), bool)
    ordered = np.sort(wide[-1].reshape(len(wide[-1]), -1), axis=1)
    with np.errstate(invalid="ignore"):
        return ordered[:, -1] - ordered[:, -2] <= 1e-5


def check_pyfunc(model: Model, folder: Path) -> None:
    """What MLflow answers is what the library was said to answer."""
    if model.predict is None or not (folder / "MLmodel").is_file():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = mlflow.pyfunc.load_model(str(folder))
        schema = loaded.metadata.get_input_schema()
        rows = model.rows[0][:32]
        if schema is not None and not schema.is_tensor_spec():
            rows = pd.DataFrame(rows, columns=schema.input_names())
        said = np.asarray(loaded.predict(rows)).reshape(len(rows), -1)
        wanted = np.asarray(model.answers([model.rows[0][:32]])[model.predict]).reshape(len(rows), -1)
    np.testing.assert_allclose(said.astype(float), wanted.astype(float), rtol=1e-6, atol=1e-7)
