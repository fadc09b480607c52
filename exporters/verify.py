"""`export verify`: source, exported file and served model, row by row."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from exporters import probes, quantization
from exporters.asked import BATCHES, answerable
from exporters.errors import ExportError
from exporters.formats.tensors import Arrays, Run
from exporters.parity import comparison
from exporters.parity.comparison import Difference, Flips, ParityComparison
from exporters.parity.decisions import Task, task_of
from exporters.parity.tolerance import HOSTILE, movement, tolerances, usual_of
from exporters.release.candidate import candidate
from exporters.release.servers import ModelServer
from exporters.reopening import open_source
from exporters.repository.lineage import Lineage
from exporters.repository.repository import ModelRepository, newest
from exporters.sources.running import run_file
from trading.models.signature import FEATURES_TENSOR

Progress = Callable[[str], None]


class ParityReport(Struct, frozen=True):
    """What `export verify` found.

    Attributes:
        model, version, source: what was compared with what.
        device: where the served model ran: "gpu", "cpu", or "" where it was not asked.
        tf32: config.pbtxt turns it off; it would be allowed 5e-3.
        tolerance: largest share of a row's largest number, or of the usual one where that is more; file, served.
        actions: how a row's action is read from its outputs.
        task: what that is: an action, a label, or a value.
        max_relative, limit: what is furthest off on the scale that it is judged on, and what is allowed there.
        rank_correlation: the lowest of its answers'; None where nothing is ranked.
        rows: compared in all.
        file_seconds, served_seconds: spent on asking.
    """

    model: str
    version: int
    source: str
    device: str
    tf32: bool
    tolerance: dict[str, float]
    actions: str
    passed: bool
    max_abs_diff: float
    max_rel_diff: float
    max_ulp: int
    flip_rate: float
    task: Task
    max_relative: float
    limit: float
    rank_correlation: float | None
    rows: int
    differences: list[Difference]
    flips: list[Flips]
    source_seconds: float
    file_seconds: float
    served_seconds: float


class Timed:
    """A run that counts its seconds."""

    def __init__(self, run: Run) -> None:
        self._run, self.seconds = run, 0.0

    def __call__(self, arrays: Arrays) -> Arrays:
        """Ask, and add the time that it took."""
        started = time.perf_counter()
        try:
            return self._run(arrays)
        finally:
            self.seconds += time.perf_counter() - started


def verify(
    name: str,
    version: int | None,
    repository: ModelRepository,
    triton: ModelServer | None,
    mlflow_uri: str,
    progress: Progress,
    *,
    recorded: str | None = None,
    rows: Path | None = None,
    trust: bool = False,
) -> ParityReport:
    """Compare a published version with its source, in its file and as served.

    Args:
        name: a model of the repository.
        version: default: the released one, else the newest.
        repository: where it lies.
        triton: asks the version itself where it is loaded, else a copy; None leaves the served model out.
        mlflow_uri: where its source is.
        progress: told what is being done.
        recorded: a SOURCE of ticks for models that read features.
        rows: rows of the user's own, .npy or .npz.
        trust: open a source that can run its author's code.

    Raises:
        ExportError: the version, its source or the rows cannot be had.
    """
    number = version if version is not None else newest(repository, name)
    lineage = repository.verified_lineage(name, number)
    signature = lineage.contract
    batches = probe_batches(lineage, recorded, rows, repository.golden(signature, number)[0])
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        progress(f"{name} {number}: open its source, {lineage.model}")
        source = Timed(open_source(stack, repository, lineage, mlflow_uri, Path(temporary), trust=trust))
        batches = with_answers(source, batches)
        wanted = {key: source(arrays) for key, arrays in batches.items()}
        subjects: list[tuple[str, str, Timed]] = []
        if signature.backend != "ensemble":
            path = repository.folder(name, number) / signature.file_name
            subjects.append(("file", "cpu", Timed(run_file(signature, path))))
        device = ""
        if triton is not None:
            served, device = open_served(stack, repository, lineage, number, triton)
            subjects.append(("served", device, Timed(served)))
        total = compare_all(lineage, number, batches, wanted, source, subjects, progress)
        total = by_decisions(total) if lineage.precision == "int8" else total
    return report_of(lineage, number, device, source, subjects, total)


def by_decisions(found: ParityComparison) -> ParityComparison:
    """int8 passes where no more rows are decided otherwise than twice what it may cost: these are other rows."""
    passed: dict[str, bool] = {}
    for where in {f.where for f in found.flips}:
        asked = [f for f in found.flips if f.where == where and f.rows != HOSTILE]
        share = sum(f.flipped for f in asked) / max(1, sum(f.of for f in asked))
        passed[where] = share <= 2 * quantization.FLIPS
    return ParityComparison([replace(d, passed=passed[d.where]) for d in found.differences], found.flips)


def with_answers(source: Run, batches: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """The batches without hostile rows that the source does not take."""
    found = {key: answerable(source, a) if key.startswith(HOSTILE) else a for key, a in batches.items()}
    return {key: arrays for key, arrays in found.items() if len(arrays[0])}


def compare_all(
    lineage: Lineage,
    number: int,
    batches: Mapping[str, Arrays],
    wanted: Mapping[str, Arrays],
    source: Run,
    subjects: list[tuple[str, str, Timed]],
    progress: Progress,
) -> ParityComparison:
    """Every batch through every subject (where it runs, on which device, its run), against the source."""
    signature, total = lineage.contract, ParityComparison([], [])
    kinds = [(key.partition(":")[0], arrays) for key, arrays in wanted.items()]
    usually = usual_of([(kind, arrays) for kind, arrays in kinds if kind == "golden"])
    moves = {key: movement(source, batches[key], wanted[key]) for key in batches if key.startswith(HOSTILE)}
    for where, on, run in subjects:
        for key, arrays in batches.items():
            progress(f"{signature.name} {number}: {where}, {key.replace(':', ' rows, batch ')}")
            total += comparison.compare(
                signature,
                wanted[key],
                run(arrays),
                where=where,
                rows=key.partition(":")[0],
                precision=lineage.precision,
                device=on,
                usually=usually,
                moves=moves.get(key),
            )
    return total


def report_of(
    lineage: Lineage,
    number: int,
    device: str,
    source: Timed,
    subjects: list[tuple[str, str, Timed]],
    total: ParityComparison,
) -> ParityReport:
    """What was found, with what was allowed and how long each subject took."""
    spent = {where: run.seconds for where, _, run in subjects}
    allowed = {
        where: max(t.share for t in tolerances(lineage.contract, lineage.precision, on))
        for where, on, _ in subjects
    }
    return ParityReport(
        model=lineage.contract.name,
        version=number,
        source=lineage.model,
        device=device,
        tf32=False,
        tolerance=allowed,
        actions=describe_actions(lineage),
        passed=total.passed,
        max_abs_diff=total.max_abs,
        max_rel_diff=max((d.max_rel for d in total.differences), default=0.0),
        max_ulp=max((d.max_ulp for d in total.differences), default=0),
        flip_rate=total.flip_rate,
        task=task_of(lineage.contract),
        max_relative=total.relative,
        limit=total.limit,
        rank_correlation=total.rank_correlation,
        rows=sum(f.of for f in total.flips),
        differences=total.differences,
        flips=total.flips,
        source_seconds=source.seconds,
        file_seconds=spent.get("file", 0.0),
        served_seconds=spent.get("served", 0.0),
    )


def probe_batches(lineage: Lineage, recorded: str | None, rows: Path | None, kept: Arrays) -> dict[str, Arrays]:
    """Every kind of row at batch 1, 2, 3, 64 and the largest; `kept` are the version's golden rows."""
    signature = lineage.contract
    # Like the rows that the source was logged with, as far as they are known.
    example = [a[: probes.least_golden(signature.max_batch_size)] for a in kept]
    largest = signature.max_batch_size
    if recorded is not None and FEATURES_TENSOR not in signature.inputs:
        raise ExportError(
            f"{signature.name} does not read the gateway's features, so recorded ticks say nothing about it: "
            "give rows of its own with --rows"
        )
    kinds = {
        "golden": probes.golden(signature, largest, example),
        HOSTILE: probes.adversarial(signature, largest, example),
        "recorded": probes.recorded(signature, largest, recorded),
        "own": probes.from_file(signature, rows, lineage.columns) if rows is not None else None,
    }
    sizes = sorted({*(b for b in BATCHES if b < largest), largest})
    return {
        f"{kind}:{size}": probes.first_rows(arrays, size)
        for kind, arrays in kinds.items()
        if arrays is not None
        for size in sizes
    }


def open_served(
    stack: ExitStack, repository: ModelRepository, lineage: Lineage, version: int, triton: ModelServer
) -> tuple[Run, str]:
    """The version where it is loaded; else a copy of it, which is unloaded afterwards."""
    signature = lineage.contract
    if version in triton.ready(signature.name):
        return triton.run(signature, version), triton.device(signature.name, version)
    if signature.backend == "ensemble":
        raise ExportError(
            f"{signature.name} {version} is not loaded, and its steps may not be either: release it first, "
            "or verify its steps"
        )
    stack.enter_context(repository.lock(signature.name))
    serving = repository.serving(signature.name)
    copy, device = stack.enter_context(candidate(repository, triton, signature, version, serving))
    return triton.run(copy, version), device


def describe_actions(lineage: Lineage) -> str:
    """How `parity.actions` reads a row."""
    outputs = lineage.contract.outputs
    if any(t.name == "target_position" for t in outputs):
        return "order from a flat book at default limits: buy, hold or sell"
    if any(not t.dtype.startswith("FP") for t in outputs):
        return "label"
    wide = [t.name for t in outputs if len(t.dims) and max(t.dims) > 1]
    return f"largest of {wide[-1]}" if wide else f"sign of {outputs[0].name}"
