"""Rows of a file, or the features of a market, asked of a served model."""

from __future__ import annotations

import itertools
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from connectors.triton.asking import Array, ModelClient, ServedModel
from trading.errors import ConfigurationError
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.market import Tick, TickBatch
from trading.models.rows import arranged, read_rows
from trading.models.signature import FEATURES_TENSOR

#: Ticks of a source where nobody says how many.
TICKS, READ_AT_ONCE = 10, 1024
KINDS = (".csv", ".json", ".jsonl", ".npz", ".parquet")
Progress = Callable[[str], None]


class Asked(Struct, frozen=True):
    """What was asked.

    Attributes:
        inputs: [rows, *dims] by input.
        labels: what is told of each row beside its answers, by name: of a market its symbols and times.
    """

    inputs: Mapping[str, Array]
    labels: Mapping[str, Sequence[Any]] = {}

    @property
    def rows(self) -> int:
        """How many."""
        return max((len(a) for a in self.inputs.values()), default=0)


class Inference(Struct, frozen=True):
    """Answers of a model.

    Attributes:
        model: as the server tells of it.
        asked: the rows.
        answers: [rows, *dims] by output.
        requests: how many they took.
        seconds: all of these.
    """

    model: ServedModel
    asked: Asked
    answers: Mapping[str, Array]
    requests: int
    seconds: float

    @property
    def is_by_row(self) -> bool:
        """Whether each output has as many rows as were asked; what finds things in a row answers otherwise."""
        return all(len(a) == self.asked.rows for a in self.answers.values())


def of_file(model: ServedModel, path: Path, limit: int | None) -> Asked:
    """The rows of a file, an array an input. Raises ConfigurationError where it has none.

    A table for one matrix is sent as it stands: no server says what it calls its columns.
    """
    names = [t.name for t in model.inputs]
    arrays = arranged(read_rows(path), names)
    return Asked({name: a[:limit] for name, a in zip(names, arrays, strict=True)})


def of_source(model: ServedModel, source: str, limit: int | None) -> Asked:
    """The feature kernel's rows of a market's first ticks whose windows are filled.

    Raises:
        ConfigurationError: the model takes something else, there is no such source, or it is too short to fill
            them; SourceError: it cannot be read.
    """
    if [(t.name, t.dims) for t in model.inputs] != [(FEATURES_TENSOR.name, FEATURES_TENSOR.dims)]:
        told = ", ".join(f"{t.name} {list(t.dims)}" for t in model.inputs)
        raise ConfigurationError(
            f"{model.name} takes {told}, and a market's features are {FEATURES_TENSOR.name} "
            f"{list(FEATURES_TENSOR.dims)}: give rows of its own with --rows"
        )
    wanted, engine = limit or TICKS, FeatureEngine()
    rows: list[Array] = []
    ticks: list[Tick] = []
    records = (record.tick for record in open_source(source).records())
    while len(ticks) < wanted and (some := list(itertools.islice(records, READ_AT_ONCE))):
        update = engine.update(TickBatch.from_ticks(some))
        # What a gateway would hold for, nobody need ask about.
        rows += list(update.values[update.warm])
        ticks += [tick for tick, is_warm in zip(some, update.warm.tolist(), strict=True) if is_warm]
    if not ticks:
        raise ConfigurationError(f"{source} has no tick after those that warm the features of its symbol")
    ticks, rows = ticks[:wanted], rows[:wanted]
    times = np.array([tick.event_time_ns for tick in ticks]).astype("datetime64[ns]").astype(str)
    return Asked(
        {FEATURES_TENSOR.name: np.stack(rows)},
        {"symbol": [tick.symbol for tick in ticks], "time": [f"{time}Z" for time in times]},
    )


def ask(
    client: ModelClient, model: ServedModel, asked: Asked, version: str, outputs: Sequence[str], progress: Progress
) -> Inference:
    """Ask them. Raises ConfigurationError, ServiceUnavailable."""
    progress(f"{model.name}: ask {asked.rows:,} rows")
    began_s = time.perf_counter()
    answers = client.infer(model, asked.inputs, version, outputs)
    at_once = model.rows_at_once or max(1, asked.rows)
    return Inference(model, asked, answers, -(-asked.rows // at_once), time.perf_counter() - began_s)


def records(found: Inference) -> list[dict[str, Any]]:
    """A row each, of answers that are by row: its labels, and each output's number, or list of numbers."""
    columns = {
        name: (a.reshape(len(a)) if a.shape[1:] in {(), (1,)} else a).tolist() for name, a in found.answers.items()
    }
    return [
        {
            **{name: values[k] for name, values in found.asked.labels.items()},
            **{n: v[k] for n, v in columns.items()},
        }
        for k in range(found.asked.rows)
    ]


def check_out(path: Path) -> None:
    """Raise ConfigurationError where no answers can be written there."""
    if path.suffix not in KINDS:
        raise ConfigurationError(f"--out {path}: answers are written as one of {', '.join(KINDS)}")
    if not path.parent.is_dir():
        raise ConfigurationError(f"--out {path}: there is no folder {path.parent}")


def write(found: Inference, path: Path) -> None:
    """Answers as the file's suffix says; whole or not at all."""
    half = path.with_name(f".{path.name}.half")
    if not found.is_by_row and path.suffix not in {".npz", ".json"}:
        raise ConfigurationError(
            f"--out {path}: {found.model.name} does not answer a row for a row: write .npz or .json"
        )
    try:
        told = records(found) if found.is_by_row else []
        if path.suffix == ".npz":
            as_archive(found.answers, half)
        elif path.suffix == ".json":
            half.write_bytes(msgspec.json.format(msgspec.json.encode(told or whole(found)), indent=2) + b"\n")
        elif path.suffix == ".jsonl":
            half.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in told))
        else:
            as_table(told, half, is_csv=path.suffix == ".csv")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def whole(found: Inference) -> dict[str, Any]:
    """Each output as nested lists."""
    return {name: a.tolist() for name, a in found.answers.items()}


def as_archive(answers: Mapping[str, Array], path: Path) -> None:
    """As numpy.savez writes, which takes no array that is called "file"."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in answers.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def as_table(told: list[dict[str, Any]], path: Path, *, is_csv: bool) -> None:
    """Rows as CSV, an output of several numbers as so many columns, or as Parquet, where it is a list."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if is_csv:
        csv.write_csv(pa.Table.from_pylist([spread(one) for one in told]), path)
    else:
        parquet.write_table(pa.Table.from_pylist(told), path)


def spread(one: dict[str, Any]) -> dict[str, Any]:
    """A row whose lists are columns: weights_0, weights_1 and so on."""
    found: dict[str, Any] = {}
    for name, value in one.items():
        flat = flattened(value) if isinstance(value, list) else None
        found |= {name: value} if flat is None else {f"{name}_{k}": number for k, number in enumerate(flat)}
    return found


def flattened(value: Any) -> list[Any]:
    """The numbers of nested lists, in their order."""
    return [one for part in value for one in flattened(part)] if isinstance(value, list) else [value]
