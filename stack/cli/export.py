"""`ultrathink export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stack.cli.output import err, out, print_json, table

app = typer.Typer(no_args_is_help=True, help="Bring registered models to Triton, verified.")


@app.command("all", epilog="Example: ultrathink export all --triton-url 127.0.0.1:8001")
def export_all(
    mlflow_uri: Annotated[str | None, typer.Option(help="MLflow; default: the stack's.")] = None,
    triton_url: Annotated[str | None, typer.Option(help="Triton's gRPC; default: the stack's.")] = None,
    repository: Annotated[Path | None, typer.Option(help="Model repository; default: the stack's.")] = None,
    target: Annotated[str, typer.Option(help="Triton container that must be able to read it.")] = "25.03-py3",
    alias: Annotated[str, typer.Option(help="MLflow alias to export.")] = "challenger",
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Fetch, convert, prove parity, publish, load, and prove parity as served."""
    from stack.jobs import export

    with err.status("export") as status:
        done = export(mlflow_uri, triton_url, repository, target, alias, lambda t: status.update(f"export: {t}"))
    if json:
        print_json(done)
        return
    rows = [
        [
            e.name,
            str(e.version),
            e.format,
            f"{e.parity_offline:.1e}",
            f"{e.parity_max_abs_diff:.1e}",
            e.run_id[:32],
        ]
        for e in done
    ]
    columns = ["model", "version", "format", "parity in file", "parity as served", "run"]
    out.print(table("Published and loaded", columns, rows, right=(1, 3, 4)))


@app.command(epilog="Example: ultrathink export configs --check")
def configs(
    repository: Annotated[Path, typer.Option(help="Model repository.")] = Path("model_repository"),
    check: Annotated[bool, typer.Option(help="Change nothing; exit 1 when a file is stale.")] = False,
) -> None:
    """Write every config.pbtxt from gateway/domain/signature.py; versions pinned by an ensemble stay."""
    from exporters.config_pbtxt import pinned_steps
    from exporters.repository import ModelRepository
    from gateway.domain.signature import MODELS

    found = ModelRepository(repository)
    stale = found.stale_configs()
    for path in stale:
        out.print(f"{'stale' if check else 'written'}: {path}")
    if check and stale:
        raise typer.Exit(1)
    for signature in MODELS.values() if stale else ():
        path = found.root / signature.name / "config.pbtxt"
        pinned = pinned_steps(path.read_text()) if path.is_file() else dict.fromkeys(signature.steps, 1)
        found.write_configs(signature, pinned)


@app.command(epilog="Example: ultrathink export doctor --target 25.03-py3")
def doctor(
    target: Annotated[str, typer.Option(help="Triton container.")] = "25.03-py3",
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Whether this environment's builds fit the desk's GPU. Exit code 1 when one does not."""
    from exporters import profiles
    from exporters.preflight import preflight

    findings = preflight(profiles.find(target))
    if json:
        print_json(findings)
    else:
        rows = [[f.check, "[green]fits[/]" if f.fits else "[red]does not fit[/]", f.seen] for f in findings]
        out.print(table(f"Against Triton {target} on an RTX 5070", ["check", "verdict", "seen"], rows))
    if not all(f.fits for f in findings):
        raise typer.Exit(1)
