"""`ultrathink train`."""

from __future__ import annotations

from typing import Annotated

import typer

from stack.cli.output import err, out, print_json, table

app = typer.Typer(no_args_is_help=True, help="Train models from market history and register them in MLflow.")


@app.command("all", epilog="Example: ultrathink train all --data binance:BTCUSDT.gz")
def train_all(
    data: Annotated[str, typer.Option(help="A SOURCE.")] = "skfolio:sp500",
    horizon: Annotated[int, typer.Option(min=1, help="Ticks that a signal looks ahead.")] = 10,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many ticks only.")] = None,
    mlflow_uri: Annotated[str | None, typer.Option(help="MLflow; default: the stack's.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Train regime_detection, strategy_signals and meta_controller; register each as `challenger`."""
    from stack.jobs import train

    with err.status("train") as status:
        report = train(data, horizon, limit, mlflow_uri, lambda text: status.update(f"train: {text}"))
    if json:
        print_json(report)
        return
    rows = [
        [m.name, m.version, m.run_id, ", ".join(f"{k} {v:.4g}" for k, v in m.headline.items())]
        for m in report.models
    ]
    out.print(table("Registered as challenger", ["model", "version", "run", "out of sample"], rows))
    out.print(f"{report.rows:,} rows of {report.source} ({report.dropped} bad lines); {report.verdict}")
