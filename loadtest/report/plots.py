"""Plots of a run: a distribution's whole tail, and what happened when."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from loadtest.measuring.latencies import Histogram, LatencySummary, Values, quantile_ms
from loadtest.measuring.result import RunResult

mpl.use("Agg")
COLOURS = ("#264653", "#2a9d8f", "#e9c46a", "#e76f51", "#8ac926", "#d1495b", "#8d99ae", "#6a4c93", "#1982c4")
#: Percentiles of the tail's plot, as 1 / (1 - p).
NINES = np.logspace(0, 5, 400)


def encode(figure: Figure) -> str:
    """A PNG as text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return base64.b64encode(buffer.getvalue()).decode()


def pictures(result: RunResult) -> dict[str, str]:
    """Titles and PNGs of one run."""
    names = (
        ("from the intended time", "from the actual sending")
        if result.model == "open"
        else ("corrected", "as asked")
    )
    sides = dict(zip(names, (result.latency, result.service), strict=True))
    found = {
        "Latency by percentile": percentile_figure(sides, result),
        "Latency by time": time_figure(result),
        "Throughput, and the generator's lag": rate_figure(result),
    }
    if result.servers:
        found["CPU and memory of each process"] = server_figure(result)
    return {title: encode(figure) for title, figure in found.items()}


def percentile_figure(summaries: dict[str, LatencySummary], judged: RunResult | None = None) -> Figure:
    """Latency against percentile, both axes logarithmic, with the goals."""
    figure, axes = _figure(4.5)
    for (name, summary), colour in zip(summaries.items(), cycle(COLOURS), strict=False):
        if not summary.count:
            continue
        histogram = Histogram(summary.histogram)
        # No percentile beyond what the count can show.
        nines = NINES[max(2.0, summary.count) >= NINES]
        values = [histogram.percentile_ms(100.0 * (1.0 - 1.0 / n)) for n in nines]
        axes.plot(nines, values, color=colour, label=name, drawstyle="steps-post")
    for check in judged.checks if judged else ():
        if check.unit == "ms" and check.name.startswith("p"):
            at = 1.0 / (1.0 - float(check.name[1:]) / 100.0)
            limit = float(check.goal.split()[2])
            colour = "#2e9e5b" if check.verdict == "held" else "#d1495b"
            axes.plot([at], [limit], marker="_", markersize=18, markeredgewidth=2.5, color=colour)
            axes.annotate(
                f"{check.name} goal",
                (at, limit),
                xytext=(0, 4),
                textcoords="offset points",
                fontsize=8,
                ha="center",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{100.0 * (1.0 - 1.0 / n):.7g} %"))
    axes.set_xlabel("percentile")
    axes.set_ylabel("ms")
    if any(s.count for s in summaries.values()):
        axes.legend(loc="upper left")
    return figure


def time_figure(result: RunResult) -> Figure:
    """Percentiles of what was meant for each moment."""
    figure, axes = _figure(4.0)
    counts = result.series.matrix()
    found = quantile_ms(counts, (0.5, 0.95, 0.99, 1.0))
    at = _seconds(result)
    for k, name in enumerate(("p50", "p95", "p99", "longest")):
        axes.plot(at, found[:, k], color=COLOURS[k], label=name, linewidth=1.2)
    axes.set_yscale("log")
    axes.set_xlabel("seconds after the warm-up")
    axes.set_ylabel("ms")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False)
    return figure


def rate_figure(result: RunResult) -> Figure:
    """Arrivals and answers a second; below, how late the generator was at worst."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    rate, lag = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    at, cell_s = _seconds(result), result.series.cell_s
    meant = result.series.matrix().sum(axis=1) / cell_s
    # The last cell may be cut short, and would look like a fall.
    whole = slice(None, -1) if len(at) > 1 else slice(None)
    rate.plot(at[whole], meant[whole], color=COLOURS[0], label="meant and answered", linewidth=1.2)
    rate.plot(
        at[whole],
        np.array(result.series.answered)[whole] / cell_s,
        color=COLOURS[1],
        label="answers seen",
        linewidth=1.2,
    )
    rate.set_ylim(bottom=0)
    rate.set_ylabel("a second")
    rate.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False)
    lag.plot(at, result.series.lag_ms, color=COLOURS[5], linewidth=1.2)
    lag.set_ylim(bottom=0)
    lag.set_ylabel("worst lag, ms")
    lag.set_xlabel("seconds after the warm-up")
    return figure


def server_figure(result: RunResult) -> Figure:
    """CPU (100 % is a core) and resident memory without shared pages."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    cpu, memory = figure.subplots(2, 1, sharex=True)
    for k, server in enumerate(result.servers):
        colour = COLOURS[k % len(COLOURS)]
        at = np.array(server.at_s) - result.warm_up_s
        cpu.plot(at, server.cpu_percent, color=colour, label=server.name, linewidth=1.2)
        memory.plot(at, server.memory_mb, color=colour, label=server.name, linewidth=1.2)
    cpu.set_ylabel("CPU, % of a core")
    cpu.set_ylim(bottom=0)
    memory.set_ylabel("memory, MB")
    memory.set_ylim(bottom=0)
    memory.set_xlabel("seconds after the warm-up")
    cpu.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def curve_figure(
    rates: Sequence[float],
    p50: Sequence[float],
    p99: Sequence[float],
    good: Sequence[bool],
    limit: float,
    knee: float | None,
) -> Figure:
    """Latency against load; what missed its gates is hollow."""
    figure, axes = _figure(4.5)
    order = np.argsort(rates)
    at = np.array(rates)[order]
    for values, name, colour in ((p50, "p50", COLOURS[0]), (p99, "p99", COLOURS[1])):
        axes.plot(at, np.array(values)[order], color=colour, linewidth=1.2, label=name)
        for rate, value, ok in zip(rates, values, good, strict=True):
            axes.plot([rate], [value], "o", color=colour, fillstyle="full" if ok else "none", markersize=6)
    if limit > 0:
        axes.axvline(limit, color="#2e9e5b", linewidth=1.2, label=f"limit {limit:,.0f}/s")
    if knee is not None:
        axes.axvline(knee, color="#d1495b", linewidth=1.2, linestyle="--", label=f"knee {knee:,.0f}/s")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("ticks a second")
    axes.set_ylabel("ms")
    axes.legend(loc="upper left")
    return figure


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(11, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, which="major", color="#e5e8ec", linewidth=0.8)
    return figure, axes


def _seconds(result: RunResult) -> Values:
    return np.asarray((np.arange(len(result.series.cells)) + 0.5) * result.series.cell_s, np.float64)
