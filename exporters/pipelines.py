"""A pipeline's own versions: the ensemble of its steps, and the same as one graph."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from exporters.asked import golden_rows
from exporters.conversion import proven, reduced
from exporters.formats import graph, onnx, torchscript
from exporters.formats.tensors import Arrays, Run
from exporters.options import Converted, Options, Progress
from exporters.repository.lineage import Lineage, tool_versions
from exporters.sources.opened import ModelSource
from trading.models.signature import FUSED, ModelSignature, contract, variant_name


def composed(signature: ModelSignature, steps: Mapping[str, tuple[ModelSignature, Run]]) -> Run:
    """A pipeline of runs, joined by tensor names as the ensemble joins them."""

    def run(arrays: Arrays) -> Arrays:
        known = dict(zip((t.name for t in signature.inputs), arrays, strict=True))
        for step, ask in steps.values():
            answers = ask([known[t.name] for t in step.inputs])
            known.update(zip((t.name for t in step.outputs), answers, strict=True))
        return [known[t.name] for t in signature.outputs]

    return run


def ensemble(
    signature: ModelSignature,
    sources: list[ModelSource],
    folder: Path,
    converted: list[Converted],
    pins: Mapping[str, int],
    options: Options,
) -> Converted:
    """The pipeline's version: no file of its own, but steps, lineage and golden rows."""
    run = composed(signature, {s.signature.name: (s.signature, s.run) for s in sources})
    lineages = {c.lineage.contract.name: c.lineage for c in converted}
    golden = golden_rows(signature, None)
    described = Lineage(
        contract=signature,
        model=signature.name,
        run_ids={n: lineage.run_ids[n] for n, lineage in lineages.items()},
        source_sha256="",
        precision=options.precision,
        target=options.container.name,
        parity_max_abs=max(lineage.parity_max_abs for lineage in lineages.values()),
        parity_flip_rate=max(lineage.parity_flip_rate for lineage in lineages.values()),
        parity_relative=max(lineage.parity_relative for lineage in lineages.values()),
        parity_limit=max(lineage.parity_limit for lineage in lineages.values()),
        steps={n: str(v) for n, v in pins.items()},
        tools=tool_versions(),
    )
    return Converted(described, folder, golden, run(golden))


def write_fused(fused: ModelSignature, sources: list[ModelSource], written: list[Path], path: Path) -> None:
    """The steps' files as one, in their own format. Raises ExportError."""
    steps = [source.signature for source in sources]
    if path.suffix == ".onnx":
        onnx.save(graph.fuse(fused.name, fused, list(zip(steps, map(onnx.load, written), strict=True))), path)
        return
    modules = [torchscript.load(file, step.name) for file, step in zip(written, steps, strict=True)]
    parts = [(step.name, step.inputs, step.outputs, module) for step, module in zip(steps, modules, strict=True)]
    torchscript.save(torchscript.fuse(fused.inputs, fused.outputs, parts), path)


def convert_fused(
    signature: ModelSignature, sources: list[ModelSource], folder: Path, options: Options, progress: Progress
) -> Converted:
    """All steps as one graph, of ONNX or of TorchScript, proven equal to the composed sources."""
    fused = replace(
        contract(variant_name(signature.name, FUSED)),
        max_batch_size=signature.max_batch_size,
        backend="pytorch" if options.format == "torchscript" else "onnxruntime",
    )
    path = folder / fused.file_name
    with tempfile.TemporaryDirectory() as temporary:
        written = []
        for source in sources:
            progress(f"{fused.name}: convert {source.signature.name}")
            written.append(Path(temporary) / f"{source.signature.name}{path.suffix}")
            source.write(written[-1])
        write_fused(fused, sources, written, path)
    full = reduced(fused, path, options, None, ())
    return proven(
        fused,
        path,
        composed(signature, {s.signature.name: (s.signature, s.run) for s in sources}),
        options,
        progress,
        example=None,
        full=full,
        lineage=Lineage(
            contract=fused,
            model=signature.name,
            run_ids={s.signature.name: s.origin.run_id for s in sources},
            source_sha256="",
            precision=options.precision,
            target=options.container.name,
            parity_max_abs=0.0,
            parity_flip_rate=0.0,
            steps={s.signature.name: s.origin.uri for s in sources},
            tools=tool_versions(),
            trusted=options.trust,
        ),
    )
