"""A fetched model, opened: something that answers, and that can be written as ONNX or TorchScript."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from exporters.errors import ExportError, brief
from exporters.formats import graph, onnx, torchscript
from exporters.formats.tensors import Arrays, Run, check_shapes, dtype_of, example
from exporters.sources.declared import WAYS
from exporters.sources.references import Origin
from exporters.sources.running import run_module, run_onnx
from exporters.sources.sandbox import IsolatedModel
from exporters.sources.sandbox_protocol import Request
from trading.features.definitions import FEATURE_VERSION
from trading.models.signature import MAX_BATCH_SIZE, ModelSignature, TensorSpec, contract

if TYPE_CHECKING:
    import torch

Format = Literal["onnx", "torchscript", "auto"]


class ModelSource(Struct, frozen=True):
    """An opened model.

    Attributes:
        origin: where it comes from.
        signature: its contract; `backend` is not decided by the source.
        native: the format that needs no conversion.
        run: asks the source itself.
        write: writes it to a path, as the suffix says; raises ExportError.
        classes: names of a classifier's classes.
        columns: of the table that it reads, in their order; empty where it reads none, or one without names.
        example: rows that were logged with it, or like those that it was trained on; None where neither is known.
        single: whether it takes one row at once, and no more.
    """

    origin: Origin
    signature: ModelSignature
    native: Literal["onnx", "torchscript", "other"]
    run: Run
    write: Callable[[Path], None]
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    example: Arrays | None = None
    single: bool = False


@contextlib.contextmanager
def opened(
    origin: Origin,
    folder: Path,
    *,
    trust: bool = False,
    max_batch: int | None = None,
    precision: str = "fp32",
    tracer_warnings: tuple[str, ...] = (),
    as_columns: bool = False,
    process: IsolatedModel | None = None,
) -> Iterator[ModelSource]:
    """Open a model; anything but TorchScript and ONNX in a process of its own.

    Args:
        origin: what was fetched.
        folder: private to us.
        trust: allow artefacts that can run their author's code.
        max_batch: largest batch to serve; default: the contract's, or 1024.
        precision: "fp64" for rows in double precision, of scikit-learn and LightGBM.
        tracer_warnings: texts of those that PyTorch's tracer may give.
        as_columns: a table as one input a column.
        process: that has opened models whose authors are trusted as much; default: a fresh one.

    Raises:
        UnsafeArtefact, ExportError: says why it cannot be opened, or how it breaks its contract.
    """
    if origin.flavour in {"onnx", "pytorch"}:
        check_for_networks(origin, precision, as_columns=as_columns)
    if origin.flavour == "onnx":
        source = open_onnx(origin, folder)
    elif origin.flavour == "pytorch" and not needs_isolation(origin):
        source = open_torchscript(origin)
    else:
        asked = Request(
            "open",
            trust=trust,
            is_double=precision == "fp64",
            tracer_warnings=tracer_warnings,
            as_columns=as_columns,
        )
        with contextlib.nullcontext(process) if process else IsolatedModel(folder) as own:
            yield checked(open_isolated(origin, own, asked), max_batch)
        return
    yield checked(source, max_batch)


def check_for_networks(origin: Origin, precision: str, *, as_columns: bool) -> None:
    """Raise ExportError for what only tables can be asked for."""
    if as_columns:
        raise ExportError(
            f"{origin.name}: --inputs columns is for tables: a tensor here is as the model declares it"
        )
    if precision == "fp64":
        raise ExportError(
            f"{origin.name}: --precision fp64 is for scikit-learn and LightGBM; a tensor here has the type that "
            "the model declares"
        )


def needs_isolation(origin: Origin) -> bool:
    """Whether a PyTorch artefact is anything but TorchScript."""
    return origin.artefact.suffix == ".pt2" or not torchscript.is_torchscript(origin.artefact, origin.name)


def checked(source: ModelSource, max_batch: int | None) -> ModelSource:
    """The source with its contract's name and size, after one small batch has gone through it."""
    origin, signature = source.origin, source.signature
    with contextlib.suppress(KeyError):
        known = contract(origin.name)
        check_contract(origin, signature, known)
        signature = known
    if source.single and max_batch not in {None, 1}:
        raise ExportError(
            f"{origin.name} takes one row at once, its batch axis is fixed at 1: leave --max-batch out, or export "
            "it with a dynamic first axis"
        )
    most = 1 if source.single else max_batch or signature.max_batch_size
    signature = replace(signature, max_batch_size=most)
    rows_known = origin.example if source.example is None else source.example
    for rows in (1,) if source.single else (1, 3):
        try:
            answers = source.run(some_rows(signature.inputs, rows_known, rows))
        except Exception as error:  # any runtime, any model
            raise ExportError(
                f"{origin.name} does not run on a batch of {rows} as its signature describes it: {brief(error)}"
            ) from error
        check_shapes(f"{origin.name} at its source", signature.outputs, answers, rows)
    return replace(source, signature=signature, example=rows_known)


def some_rows(inputs: tuple[TensorSpec, ...], example: Arrays | None, rows: int) -> Arrays:
    """The first logged rows, or zeros."""
    if example is None:
        return [np.zeros((rows, *t.dims), dtype_of(t)) for t in inputs]
    return [np.resize(a, (rows, *t.dims)).astype(dtype_of(t)) for t, a in zip(inputs, example, strict=True)]


def check_contract(origin: Origin, found: ModelSignature, wanted: ModelSignature) -> None:
    """Raise ExportError unless a model of ours has the tensors and feature version that the gateway expects."""
    if origin.feature_version != wanted.feature_version:
        raise ExportError(
            f"{origin.name} was trained on feature version {origin.feature_version}, the gateway computes "
            f"version {FEATURE_VERSION}: train it again, or serve it under another --name"
        )
    for side in ("inputs", "outputs"):
        ours, theirs = getattr(wanted, side), getattr(found, side)
        if ours != theirs:
            raise ExportError(unlike_ours(origin, side, theirs, ours))


def unlike_ours(origin: Origin, side: str, found: Iterable[TensorSpec], wanted: Iterable[TensorSpec]) -> str:
    """That a model of ours has other tensors than the gateway expects, in words."""
    return f"{origin.name}: {side} are {onnx.text(found)}, the gateway's contract says {onnx.text(wanted)}"


def base_signature(
    origin: Origin, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> ModelSignature:
    """A signature that is nobody's contract yet."""
    return ModelSignature(origin.name, "onnxruntime", inputs, outputs, (), origin.feature_version, MAX_BATCH_SIZE)


def open_onnx(origin: Origin, folder: Path) -> ModelSource:
    """The file's own declaration, which MLflow's signature must agree with; what is changed lies in `folder`."""
    file, single = freed(origin.artefact, folder)
    inputs, outputs = onnx.signature_of(file)
    for side, said, declared in (("inputs", origin.inputs, inputs), ("outputs", origin.outputs, outputs)):
        by_name = {t.name: replace(t, dims=t.dims or (1,)) for t in declared}
        if said and not (
            by_name.keys() == {t.name for t in said} and all(onnx.agrees(by_name[t.name], t) for t in said)
        ):
            raise ExportError(
                f"{origin.name}: the signature's {side} are {onnx.text(said)}, the file's {onnx.text(declared)}: "
                "log it again with a signature that fits"
            )
    flat = {t.name for t in outputs if not t.dims}
    inputs = origin.inputs or inputs
    declared = tuple(replace(t, dims=()) if t.name in flat else t for t in origin.outputs or outputs)
    check_dims(origin, inputs)
    # Its own functions where they are called: ONNX Runtime may mistake one for an operator of the same name.
    whole = onnx.load(file).SerializeToString() if onnx.has_functions(file) else file
    asked = run_onnx(whole, [t.name for t in inputs], [t.name for t in declared])
    outputs = as_columns(origin, inputs, declared, asked, 1 if single else 3)
    signature = base_signature(origin, inputs, outputs)

    def run(arrays: Arrays) -> Arrays:
        return [a.reshape(len(a), *t.dims) for a, t in zip(asked(arrays), outputs, strict=True)]

    def write(path: Path) -> None:
        if path.suffix != ".onnx":
            raise ExportError(f"{origin.name} is ONNX already: use --format onnx")
        model = onnx.load(file)
        if outputs != declared or not all(map(onnx.has_shape, model.graph.output)):
            graph.keep_outputs(model, {t.name: t for t in outputs})
        onnx.save(model, path)

    return ModelSource(origin, signature, "onnx", run if outputs != declared else asked, write, single=single)


def check_dims(origin: Origin, inputs: tuple[TensorSpec, ...]) -> None:
    """Raise ExportError for an input that is one number a row, or whose rows have no one length."""
    for tensor in inputs:
        if not tensor.dims:
            raise ExportError(
                f"{origin.name}: {tensor.name} is one number a row without an axis of its own: export it as "
                "[batch, 1]"
            )
        if -1 in tensor.dims:
            raise ExportError(
                f"{origin.name}: {tensor.name} has shape {[-1, *tensor.dims]}, and rows are served at one length: "
                "say --sample FILE with rows of that length, or --input NAME:DTYPE[SHAPE], or log it to MLflow "
                "with a signature that gives its inner axes"
            )


def freed(artefact: Path, folder: Path) -> tuple[Path, bool]:
    """The file with a free batch axis where it was fixed at one row, and whether it was."""
    model = onnx.load(artefact)
    if not graph.free_single(model):
        return artefact, False
    onnx.save(model, folder / "single.onnx")
    return folder / "single.onnx", True


def as_columns(
    origin: Origin, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], run: Run, rows: int
) -> tuple[TensorSpec, ...]:
    """Outputs with the dims that they turn out to have, where one is open; a number a row is a column."""
    if all(t.dims and -1 not in t.dims for t in outputs):
        return outputs
    try:
        answers = run(example(inputs, rows))
    except Exception as error:  # any runtime, any model
        raise ExportError(f"{origin.name} does not run as it describes itself: {brief(error)}") from error
    return tuple(replace(t, dims=tuple(a.shape[1:]) or (1,)) for t, a in zip(outputs, answers, strict=True))


def open_torchscript(origin: Origin) -> ModelSource:
    """Dims come from MLflow, or from the contract of a model of ours."""
    module = torchscript.load(origin.artefact, origin.name)
    inputs, outputs, version = origin.inputs, origin.outputs, origin.feature_version
    if not inputs or not outputs:
        with contextlib.suppress(KeyError):
            known = contract(origin.name)
            if inputs and [(t.dims, t.dtype) for t in inputs] != [(t.dims, t.dtype) for t in known.inputs]:
                raise ExportError(unlike_ours(origin, "inputs", inputs, known.inputs))
            # What the contract says of it nobody need say.
            inputs, outputs, version = known.inputs, known.outputs, known.feature_version
    if not inputs:
        raise ExportError(f"{origin.name} has no signature, and TorchScript does not tell its dims: {WAYS}")
    if not outputs and origin.unnamed:
        inputs = torchscript.named(inputs, torchscript.arguments(module))
    answer, problem = first_answer(module, inputs, origin.example)
    module = torchscript.with_arguments(module, inputs)
    if answer is not None:
        found, names = torchscript.columns(answer)
        module = torchscript.with_columns(module, answer)
        outputs = outputs or torchscript.specs_of(found, names)
    elif not outputs:
        raise ExportError(f"{origin.name} does not run on rows of {onnx.text(inputs)}: {problem}")
    signature = base_signature(replace(origin, feature_version=version), inputs, outputs)

    def write(path: Path) -> None:
        if path.suffix == ".pt":
            torchscript.save(module, path)
        else:
            onnx.write(module, inputs, outputs, path)

    return ModelSource(
        replace(origin, feature_version=version), signature, "torchscript", run_module(module), write
    )


def first_answer(
    module: torch.jit.ScriptModule, inputs: tuple[TensorSpec, ...], known: Arrays | None
) -> tuple[object, str]:
    """What it answers to two rows, as it is; None where it does not run, and why, told of its signature later."""
    import torch

    try:
        with torch.inference_mode():
            return module(*map(torch.tensor, some_rows(inputs, known, 2))), ""
    except RuntimeError as error:
        # Its last line says what happened, those before it where.
        return None, brief(str(error).strip().rpartition("\n")[2])


def open_isolated(origin: Origin, model: IsolatedModel, asked: Request) -> ModelSource:
    """A pickle, a forest, a booster, an exported program."""
    request = replace(
        asked,
        flavour=origin.flavour,
        artefact=str(origin.artefact.resolve()),
        code=origin.code,
        inputs=origin.inputs,
        outputs=origin.outputs,
        columns=origin.columns,
        unnamed=origin.unnamed,
        model_class=origin.model_class,
        example=model.keep(origin.example),
    )
    found = model.open(request)
    signature = base_signature(origin, found.inputs, found.outputs)
    rows = model.known() if origin.example is None else origin.example
    if rows is not None and len(found.inputs) != len(rows):
        rows = [rows[0][:, k : k + 1] for k in range(len(found.inputs))]
    return ModelSource(origin, signature, "other", model.run, model.convert, found.classes, found.columns, rows)
