"""What people would rather look at: parity by batch size, latency of two variants."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from exporters.errors import ExportError
from exporters.parity.decisions import in_words
from exporters.verify import ParityReport

mpl.use("Agg")
#: Below this two float32 answers are the same for any purpose; the axis needs a floor above 0.
FLOOR = 1e-9
COLOURS = {"golden": "#2a78b5", "adversarial": "#c0504d", "recorded": "#5a9e4b", "own": "#8064a2"}


def check_file(path: Path) -> None:
    """Raise ExportError where no plot can be written there: of an unknown kind, or into no folder."""
    kinds = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix.lstrip(".").lower() not in kinds:
        raise ExportError(f"--plot {path}: a plot is written as one of .{', .'.join(kinds)}")
    if not path.parent.is_dir():
        raise ExportError(f"--plot {path}: there is no folder {path.parent}")


def parity_figure(report: ParityReport, path: Path) -> None:
    """Largest absolute difference against batch size, a panel for the file and one for the served model."""
    places = [w for w in ("file", "served") if any(d.where == w for d in report.differences)]
    figure = Figure(figsize=(5.2 * len(places), 4.0), layout="constrained")
    sizes = sorted({d.batch for d in report.differences})
    for k, where in enumerate(places):
        axes = figure.add_subplot(1, len(places), k + 1)
        for kind in dict.fromkeys(d.rows for d in report.differences):
            found = {
                n: max(d.max_abs for d in report.differences if (d.where, d.rows, d.batch) == (where, kind, n))
                for n in sizes
            }
            heights = [max(v, FLOOR) for v in found.values()]
            axes.plot(range(len(sizes)), heights, "o-", label=kind, color=COLOURS.get(kind), markersize=4)
        lowest = min(d.allowed for d in report.differences if d.where == where)
        if lowest > 0:
            axes.axhline(lowest, color="0.3", linestyle="--", linewidth=1)
            axes.text(0, lowest * 0.8, f"allowed {lowest:.0e}", fontsize=8, color="0.3", va="top")
        axes.set_yscale("log")
        axes.set_ylim(FLOOR / 2, None)
        axes.set_xticks(range(len(sizes)), [str(n) for n in sizes])
        axes.set_xlabel("rows in the batch")
        place = "exported file" if where == "file" else f"served through gRPC ({report.device})"
        axes.set_title(place, fontsize=10)
        axes.grid(visible=True, alpha=0.3)
        if k == 0:
            axes.set_ylabel("largest |difference| from the source")
            axes.legend(frameon=False, fontsize=8)
    verdict = "passes" if report.passed else "FAILS"
    figure.suptitle(
        f"{report.model} {report.version} {verdict}: {report.max_relative:.1e} of what is usual "
        f"({report.limit:.0e} allowed), {report.max_abs_diff:.1e} at most, {report.rows:,} rows: "
        f"{in_words(report.task, report.flip_rate, report.rank_correlation)}",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)
