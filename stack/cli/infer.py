"""`ultrathink infer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.cli.output import err, out, print_json, table
from trading.errors import ConfigurationError

if TYPE_CHECKING:
    from stack.workflows.inference import Inference

#: Rows and numbers of an output that a table shows.
SHOWN_ROWS, SHOWN_NUMBERS = 20, 8


def infer(
    model: Annotated[str, typer.Argument(help="A model that Triton serves.")],
    rows: Annotated[Path | None, typer.Option(help="Rows to ask: .npy, .npz, .csv or .parquet.")] = None,
    source: Annotated[
        str | None, typer.Option(help="SOURCE of ticks, whose features are asked of a model of the pipeline's.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many rows; of a source 10 unless said.")] = None,
    version: Annotated[str, typer.Option("--model-version", help="Default: the one that is served.")] = "",
    output: Annotated[
        list[str] | None, typer.Option(help="Only this output; say it once for each. Default: all.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="grpc or http.")] = "grpc",
    triton_url: Annotated[str | None, typer.Option(help="host:port; default: the stack's.")] = None,
    timeout_s: Annotated[float, typer.Option(min=0.001, max=3600.0, help="Of a request.")] = 10.0,
    answers: Annotated[
        Path | None, typer.Option("--out", help="Write answers: .csv, .json, .jsonl, .npz or .parquet.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Ask a served model, and show what it answers.

    Any model on any Triton: what it takes and answers with is asked of the server. Exit code 2 where it refuses.

    Example: ultrathink infer trading_decision --source simulate:crash?seed=3
    """
    from connectors.triton.asking import ModelClient
    from stack.workflows.inference import ask, check_out, of_file, of_source, write

    if (rows is None) == (source is None):
        raise ConfigurationError("give either --rows FILE or --source SOURCE")
    if protocol not in {"grpc", "http"}:
        raise ConfigurationError(f"--protocol {protocol!r}: expected grpc, http")
    if answers is not None:
        check_out(answers)
    if not version.isdigit() and version:
        raise ConfigurationError(f"--model-version {version!r}: a version is a whole number")
    with (
        err.status("infer") as status,
        ModelClient(address_of(triton_url, protocol), protocol, timeout_s) as client,  # type: ignore[arg-type]
    ):
        served = client.model(model, version)
        asked = of_file(served, rows, limit) if rows is not None else of_source(served, str(source), limit)
        found = ask(client, served, asked, version, output or (), status.update)
        if answers is not None:
            write(found, answers)
    show(found, version, json=json, written=answers)


def address_of(told: str | None, protocol: str) -> str:
    """Triton's by a protocol, as given, or the stack's. Raises ConfigurationError."""
    from connectors.triton.addresses import only
    from stack.servers.settings import LOOPBACK, load

    try:
        own = load().triton_grpc if protocol == "grpc" else f"{LOOPBACK}:{load().ports.triton_http}"
        return only(told or own, "--triton-url")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def show(found: Inference, version: str, *, json: bool, written: Path | None) -> None:
    """Answers, or their beginning."""
    from stack.workflows.inference import records, whole

    told = records(found) if found.is_by_row else []
    if json:
        print_json({
            "model": found.model.name, "version": version or found.model.version,
            **({"rows": told} if found.is_by_row else {"outputs": whole(found)}),
            "requests": found.requests, "seconds": round(found.seconds, 6),
        })  # fmt: skip
        return
    title = f"{found.model.name} {version or found.model.version}"
    if found.is_by_row:
        names = list(told[0]) if told else []
        out.print(table(title, names, [[cell(one[name]) for name in names] for one in told[:SHOWN_ROWS]]))
    else:
        rows = [[name, "x".join(map(str, a.shape)), cell(a.tolist())] for name, a in found.answers.items()]
        out.print(table(f"{title}, which does not answer a row for a row", ["output", "shape", "holds"], rows))
    if len(told) > SHOWN_ROWS:
        out.print(f"and {len(told) - SHOWN_ROWS:,} more rows: --json prints, and --out FILE keeps them all")
    took = f"{found.asked.rows:,} rows in {found.requests:,} requests, {found.seconds * 1e3:.1f} ms"
    out.print(took + (f"; all of them in {written}" if written is not None else ""), markup=False)


def cell(value: Any) -> str:
    """A number, or the first of several."""
    from stack.workflows.inference import flattened

    if not isinstance(value, list):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    flat = flattened(value)
    more = f" … {len(flat)} in all" if len(flat) > SHOWN_NUMBERS else ""
    return " ".join(cell(one) for one in flat[:SHOWN_NUMBERS]) + more
