"""`ultrathink data build` and `inspect`: datasets for training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.data.command import Json, app
from stack.cli.output import err, out, print_json, table

if TYPE_CHECKING:
    from trainers.data.manifest import Manifest
    from trainers.evaluation.inspection import Inspection


@app.command(
    epilog="Example: ultrathink data build binance:BTCUSDT.gz --bars tick:10 --horizon 10s --out datasets/btc"
)
def build(
    sources: Annotated[list[str], typer.Argument(help="SOURCEs; several are merged by time of arrival.")],
    to: Annotated[Path, typer.Option("--out", help="Folder that does not exist yet.")],
    bars: Annotated[str, typer.Option(help="ticks, time:1m, tick:50, volume:10 or dollar:1e6.")] = "ticks",
    horizon: Annotated[
        str | None,
        typer.Option(help="How far labels look ahead, as 10s or 5d; default: ten mean distances of rows."),
    ] = None,
    up: Annotated[float, typer.Option(min=0.1, help="Upper barrier, in deviations over the horizon.")] = 2.0,
    down: Annotated[float, typer.Option(min=0.1, help="Lower barrier, in deviations over the horizon.")] = 2.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many ticks only.")] = None,
    json: Json = False,
) -> None:
    """Read SOURCEs through the gateway's own feature kernel, label the rows, write Parquet and a manifest."""
    from stack.cli.train import showing
    from trading.history import open_source
    from trading.spans import parse_span, span_text
    from trainers.data.bars import Sampling
    from trainers.data.build import BuildSettings
    from trainers.data.build import build as make

    horizon_ns = None if horizon is None else parse_span(horizon)
    settings = BuildSettings(Sampling.parse(bars), bars, horizon_ns, up, down, limit)
    opened = [open_source(spec) for spec in sources]
    with showing("build") as show:
        made = make(opened, settings, to, lambda stage, n: show(stage, n, 0))
    if json:
        print_json(made)
        return
    out.print(
        f"{made.ticks:,} ticks, {made.rows:,} rows, {made.labelled:,} with a label over "
        f"{span_text(made.horizon_ns)}: {to}",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    for why, count in made.left_out.items():
        out.print(f"  left out: {count:,} {why}", markup=False)
    for source in made.sources:
        if source.dropped:
            out.print(f"  {source.spec}: {source.dropped:,} lines are no ticks, as", markup=False, soft_wrap=True)
            for line in source.dropped_first:
                out.print(f"    {line}", markup=False, soft_wrap=True)


@app.command(epilog="Example: ultrathink data inspect datasets/btc --plot btc.png")
def inspect(
    folder: Annotated[Path, typer.Argument(help="A dataset.")],
    plot: Annotated[Path | None, typer.Option(help="Write a picture here.")] = None,
    json: Json = False,
) -> None:
    """Print what a dataset holds, and what looks wrong; exit 1 where a feature knows the future."""
    from trainers.data.dataset import open_dataset
    from trainers.evaluation.inspection import inspect as look
    from trainers.evaluation.inspection import picture

    with err.status(f"read {folder}"):
        data = open_dataset(folder)
        found = look(data)
        if plot is not None:
            plot.parent.mkdir(parents=True, exist_ok=True)
            picture(data).savefig(plot, dpi=110)
    if json:
        print_json({"manifest": data.manifest, "inspection": found, "plot": str(plot) if plot else ""})
        raise typer.Exit(1 if found.suspects else 0)
    show_dataset(data.manifest, found)
    if plot is not None:
        out.print(f"picture: {plot}", markup=False)
    if found.suspects:
        for s in found.suspects:
            out.print(f"[red]leakage[/]: {s.feature} agrees with {s.target} at {s.correlation:.2f}")
        raise typer.Exit(1)


def show_dataset(m: Manifest, found: Inspection) -> None:
    """What it holds, symbol by symbol and feature by feature."""
    from trading.spans import span_text
    from trainers.evaluation.tear_sheet import when

    span = f"{when(m.first_ns)} to {when(m.last_ns)}"
    out.print(f"{m.named}: {m.rows:,} rows of {m.ticks:,} ticks ({m.bars}), {span}", markup=False, soft_wrap=True)
    spread = "no quotes" if math.isnan(found.half_spread_bps) else f"half spread {found.half_spread_bps:.3g} bp"
    out.print(
        f"labels over {span_text(m.horizon_ns)}: up {found.up:.1%}, down {found.down:.1%}, "
        f"neither {found.neither:.1%}; mean uniqueness {found.uniqueness:.3g}, as many as "
        f"{found.effective_rows:,.0f} independent ones; {spread}",
        soft_wrap=True,
    )  # fmt: skip
    rows = [
        [s.name, f"{s.ticks:,}", f"{s.rows:,}", f"{s.late:,}", f"{s.gaps:,}", span_text(s.longest_gap_ns)]
        for s in m.symbols
    ]
    out.print(table("Symbols", ["symbol", "ticks", "rows", "late", "gaps", "longest"], rows, right=(1, 2, 3, 4, 5)))
    figures = [
        [f.name, f"{f.mean:.3g}", f"{f.deviation:.3g}", f"{f.least:.3g}", f"{f.most:.3g}", f"{f.correlation:.3f}"]
        for f in found.features
    ]
    columns = ["feature", "mean", "deviation", "least", "most", "agrees with the future"]
    out.print(table("Features", columns, figures, right=(1, 2, 3, 4, 5)))
    for why, count in m.left_out.items():
        out.print(f"left out: {count:,} {why}", markup=False)
    if found.constant:
        out.print(f"never change: {', '.join(found.constant)}", soft_wrap=True)
