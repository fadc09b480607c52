"""`ultrathink gpu`: whether torch and Triton really compute on the GPU, by having them do it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.output import coloured, err, out, print_json

if TYPE_CHECKING:
    from exporters.target.gpu_validation import Seen

app = typer.Typer(
    no_args_is_help=True,
    help="Whether torch and Triton compute on the GPU that is here: by having them do it.\n\nBoth write "
    "gpu-validation.json, which `ultrathink stack status` and `ultrathink stack doctor` read.",
)
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The file that it is written to. Default: gpu-validation.json of the stack's home."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command(epilog="Example: ultrathink gpu check --gpu rtx5070 --out gpu-validation.json")
def check(
    gpu: Annotated[
        str,
        typer.Option(
            help="Whose architecture the card must have: rtx5070, rtx4090, l4, h100 ...; empty: whichever is here."
        ),
    ] = "",
    out_file: Out = None,
    json: Json = False,
) -> None:
    """Multiply on the first GPU with torch. Exit code 1 unless its build has the card's own kernels, and they work.

    Shows torch's version, its CUDA, the device and the architectures that its kernels were compiled for.
    """
    from exporters.errors import ExportError
    from exporters.profiles import find_gpu
    from exporters.target import gpu_check, gpu_validation
    from exporters.target.gpu_validation import record
    from trading.errors import ConfigurationError

    expected = find_gpu(gpu) if gpu else None
    path, by = place(out_file), gpu_validation.installed()
    if not by:
        raise ConfigurationError("torch is not installed here: it is of the extras trainers and exporters")
    with contextlib.suppress(ExportError):
        # Should it be ended meanwhile, what was seen before holds no more.
        record(path, torch=gpu_validation.begun(by))
    try:
        found = gpu_check.check(gpu_check.Torch(), expected)
    except (ImportError, OSError) as error:
        found = gpu_validation.failed(by, f"torch {by} cannot be loaded: {error}")
    show(found, path, json=json)
    note(path, torch=found)


@app.command(epilog="Example: ultrathink gpu probe --triton-url 127.0.0.1:8001")
def probe(
    triton_url: Annotated[
        str | None, typer.Option("--triton-url", help="Triton's gRPC as host:port; default: the stack's.")
    ] = None,
    out_file: Out = None,
    json: Json = False,
) -> None:
    """Have Triton run a small model of KIND_GPU, which travels with the request. Exit code 1 where it does not."""
    from connectors.triton.addresses import only
    from exporters.errors import ExportError
    from exporters.release.gpu_probe import probe as probed
    from exporters.release.triton_client import TritonServer
    from exporters.target import gpu_validation
    from exporters.target.gpu_validation import record
    from stack.servers.settings import load
    from trading.errors import ConfigurationError

    path = place(out_file)
    try:
        address = only(triton_url or load().triton_grpc, "--triton-url")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    with contextlib.closing(TritonServer(address)) as triton:
        # Nobody at the address says nothing of the GPU; from here on what was seen before holds no more.
        with contextlib.suppress(ExportError):
            record(path, triton=gpu_validation.begun("Triton"))
        found = probed(triton)
    show(found, path, json=json)
    note(path, triton=found)


def place(told: Path | None) -> Path:
    """Where the file lies."""
    from exporters.target.gpu_validation import FILE
    from stack.servers.settings import load

    return told if told is not None else load().absolute_home / FILE


def show(found: Seen, path: Path, *, json: bool) -> None:
    """Print it, before it is written: a place that cannot be written hides nothing."""
    if json:
        print_json({"ok": found.ok, "by": found.by, "told": found.told, "at": found.at, "file": str(path)})
    else:
        out.print(
            (coloured("green", "computes") if found.ok else coloured("red", "does not compute")) + ":", end=" "
        )
        out.print(found.told, markup=False, soft_wrap=True)


def note(path: Path, **found: Seen) -> None:
    """Write it, and end with 1 where it does not compute. Raises ExportError where it cannot be written."""
    from exporters.target.gpu_validation import record

    record(path, **found)
    err.print(f"noted in {path}", markup=False, soft_wrap=True)
    if not all(one.ok for one in found.values()):
        raise typer.Exit(1)
