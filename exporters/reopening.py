"""The source of a version, opened again as it was when the version was exported."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from exporters.formats.tensors import Run
from exporters.pipelines import composed
from exporters.repository.lineage import Lineage
from exporters.repository.repository import ModelRepository
from exporters.sources import references
from exporters.sources.declared import TABLES
from exporters.sources.opened import opened
from exporters.sources.references import Origin
from trading.models.signature import TensorSpec


def open_source(
    stack: ExitStack,
    repository: ModelRepository,
    lineage: Lineage,
    mlflow_uri: str,
    temporary: Path,
    *,
    trust: bool,
) -> Run:
    """The source of a version; of a pipeline, its steps' sources joined."""
    signature = lineage.contract
    if lineage.steps:
        steps = {}
        for number, (step, where) in enumerate(lineage.steps.items()):
            found = repository.lineage(step, int(where)) if where.isdigit() else None
            uri = found.model if found else where
            run, known = open_one(stack, uri, step, mlflow_uri, temporary / f"step-{number}", trust=trust)
            steps[step] = (known, run)
        return composed(signature, steps)  # type: ignore[arg-type]
    return open_one(
        stack,
        lineage.model,
        signature.name,
        mlflow_uri,
        temporary / "source",
        trust=trust,
        largest=signature.max_batch_size,
        served=lineage,
    )[0]


def open_one(
    stack: ExitStack,
    uri: str,
    name: str,
    mlflow_uri: str,
    folder: Path,
    *,
    trust: bool,
    largest: int | None = None,
    served: Lineage | None = None,
) -> tuple[Run, object]:
    """Fetch and open one source again, as it is served."""
    (folder / "download").mkdir(parents=True)
    (folder / "home").mkdir(mode=0o700)
    reference = uri.removeprefix("file:")
    origin = references.fetch(mlflow_uri, reference, folder / "download", name)
    if served is not None:
        origin = as_exported(origin, served)
    source = stack.enter_context(
        opened(
            origin,
            folder / "home",
            trust=trust,
            max_batch=largest,
            precision=served.precision if served else "fp32",
            as_columns=served is not None and is_by_column(origin, served),
        )
    )
    return source.run, source.signature


def as_exported(origin: Origin, served: Lineage) -> Origin:
    """What its source does not say itself, as it was declared when it was exported."""
    if origin.inputs:
        return origin
    inputs = served.contract.inputs
    if origin.flavour in TABLES:
        wide = sum(math.prod(t.dims) for t in inputs)
        name = inputs[0].name if len(inputs) == 1 and not is_by_column(origin, served) else "input"
        return replace(origin, inputs=(TensorSpec(name, (wide,)),), columns=served.columns)
    return replace(origin, inputs=inputs)


def is_by_column(origin: Origin, served: Lineage) -> bool:
    """Whether a table is served as an input a column; of older versions the columns were not kept."""
    names = tuple(t.name for t in served.contract.inputs)
    return origin.flavour in TABLES and (len(names) > 1 or names == served.columns)
