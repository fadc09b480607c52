"""An experiment as a page for people: one sentence of verdict first, then what it rests on."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from services.experiments.block_series import BlockSeries
from services.experiments.evaluation import ChallengerOutcome, Evaluation
from services.experiments.live_series import LiveSeries
from stack.workflows.experiments.kept import CountedBlocks, KnownExperiment
from trading.errors import ConfigurationError
from trading.experiments.definition import CHAMPION, ExperimentDefinition
from trading.experiments.register import WATCHER
from trading.files import replace_file

#: Of a picture's blocks so many are told apart.
SPOTS = 40
#: Neither red nor green: what is good or bad is said, and not by a line.
COLOURS = ("#264653", "#3a86ff", "#e07a00", "#8338ec", "#00a6a6", "#b5838d", "#7f7f7f", "#bc6c25", "#5e60ce")


def write_page(
    path: Path,
    definition: ExperimentDefinition,
    evaluation: Evaluation,
    counted: CountedBlocks,
    ended: str,
    known: KnownExperiment | None = None,
) -> None:
    """Write the page, whole or not at all; of an experiment of the desk with what it did there, and who did what.

    Raises ConfigurationError where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, to_page(definition, evaluation, counted, ended, known).encode())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def to_page(
    definition: ExperimentDefinition,
    evaluation: Evaluation,
    counted: CountedBlocks,
    ended: str,
    known: KnownExperiment | None = None,
) -> str:
    """One page of HTML."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=select_autoescape(["j2", "html"]),
    )
    page: str = environment.get_template("experiment.html.j2").render(
        d=definition, e=evaluation, k=known, ended=ended, when=when, number=number, rows=arm_rows(counted.shadow),
        broken=counted.shadow.broken, pictures=pictures(definition, evaluation, counted.shadow),
        on_the_desk=desk_pictures(definition, counted.desk), watcher=WATCHER,
    )  # fmt: skip
    return page


def when(time_ns: int) -> str:
    """A time for people, UTC."""
    return f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}"


def number(value: float | None) -> str:
    """Three digits; a word for what is none."""
    if value is None or np.isnan(value):
        return "unknown"
    return f"{value:+.3g}" if np.isfinite(value) else ("any" if value > 0 else "none")


def arm_rows(series: BlockSeries) -> list[tuple[str, list[str]]]:
    """What each arm did, all blocks together."""
    found = []
    for arm, blocks in series.arms().items():
        capital = series.capital
        counts = [blocks.rows, blocks.errors, blocks.orders, blocks.denied]
        bps, turnover = float((blocks.profit / capital).sum()) * 1e4, float((blocks.traded / capital).sum())
        told = [f"{turnover:,.2f}", f"{blocks.fees.sum():,.2f}", f"{bps:+,.3f}"]
        found.append((arm, [*(f"{one.sum():,.0f}" for one in counts), *told]))
    return found


def pictures(definition: ExperimentDefinition, evaluation: Evaluation, series: BlockSeries) -> dict[str, str]:
    """Title -> PNG in base64; none without a block."""
    if not evaluation.blocks:
        return {}
    begins = np.array(series.blocks * definition.block_ns, "datetime64[ns]")
    found = {"What every arm has earned after costs": earned(begins, series)}
    for one, colour in zip(evaluation.challengers, COLOURS[1:], strict=False):
        if one.looks:
            title = f"How much better {one.arm} is than the champion, as it was known at the time"
            found[title] = known(one, definition, colour)
    return found


def desk_pictures(definition: ExperimentDefinition, desk: LiveSeries | None) -> dict[str, str]:
    """Title -> PNG in base64, of what a canary's arms had; none without a block."""
    if desk is None or not len(desk.blocks):
        return {}
    return {"Whose the units were, block by block": divided(definition, desk)}


def divided(definition: ExperimentDefinition, desk: LiveSeries) -> str:
    """Each arm's part of the units beside what was promised, and which of its rows the champion decided."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    whole, fallen = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    begins = np.array(desk.blocks * definition.block_ns, "datetime64[ns]")
    units = np.stack([desk.column("units", place) for place in range(len(definition.arms))])
    # Single blocks jump: some together tell whose they are.
    some = max(1, len(begins) // SPOTS)
    starts = np.arange(0, len(begins), some)
    parts = np.add.reduceat(units, starts, axis=1)
    parts = parts / np.maximum(parts.sum(axis=0), 1.0)
    for place, (arm, colour) in enumerate(zip(definition.arms, COLOURS, strict=False)):
        whole.plot(begins[starts], parts[place], label=arm, color=colour, linewidth=1.4)
        if place:
            rows, errors = (np.add.reduceat(desk.column(name, place), starts) for name in ("rows", "errors"))
            fallen.plot(begins[starts], errors / np.maximum(rows, 1.0), color=colour, linewidth=1.4)
    whole.plot(begins, desk.shares, color="black", linewidth=0.8, linestyle="--", label="promised to challengers")
    whole.set_ylabel("part of the units")
    fallen.set_ylabel("decided by the champion\nin a challenger's place")
    whole.legend(loc="upper left")
    for axes in (whole, fallen):
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
    return png(figure)


def earned(begins: Any, series: BlockSeries) -> str:
    """Cumulative basis points by time, how far challengers are ahead so far, and each block's difference."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    whole, ahead, each = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1.3, 1))
    net = {arm: one.profit / series.capital * 1e4 for arm, one in series.arms().items()}
    for (arm, bps), colour in zip(net.items(), COLOURS, strict=False):
        whole.plot(begins, np.cumsum(bps), label=arm, color=colour, linewidth=1.4)
        if arm != CHAMPION:
            ahead.plot(begins, np.cumsum(bps - net[CHAMPION]), color=colour, linewidth=1.4)
            each.plot(begins, bps - net[CHAMPION], ".", color=colour, markersize=3, alpha=0.6)
    whole.set_ylabel("basis points of the capital, so far")
    ahead.set_ylabel("ahead of the\nchampion, so far")
    each.set_ylabel("difference,\na block")
    whole.legend(loc="upper left")
    for axes in (whole, ahead, each):
        axes.axhline(0.0, color="black", linewidth=0.6)
        axes.grid(alpha=0.3)
    return png(figure)


def known(one: ChallengerOutcome, definition: ExperimentDefinition, colour: str) -> str:
    """The interval over the number of blocks, with the effect that matters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    axes = figure.subplots()
    told = [look for look in one.looks if np.isfinite(look.lower)]
    blocks = [look.blocks for look in told]
    axes.plot(
        [look.blocks for look in one.looks], [look.mean for look in one.looks], color=colour, linewidth=1.4,
        label="mean so far",
    )  # fmt: skip
    axes.fill_between(
        blocks, [look.lower for look in told], [look.upper for look in told], color=colour, alpha=0.2,
        label="where the true one lies (decided once it leaves 0)",
    )  # fmt: skip
    axes.axhline(0.0, color="black", linewidth=0.8)
    for sign, label in ((-1.0, None), (1.0, "what matters")):
        axes.axhline(sign * definition.primary.effect, color="grey", linewidth=0.8, linestyle="--", label=label)
    axes.legend(loc="upper right", fontsize=8)
    axes.set(xlabel=f"blocks of {definition.block}", ylabel="basis points a block")
    axes.grid(alpha=0.3)
    return png(figure)


def png(figure: Any) -> str:
    """In base64."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return base64.b64encode(file.getvalue()).decode()
