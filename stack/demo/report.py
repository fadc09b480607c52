"""The demo's HTML report: what was decided, drawn."""

from __future__ import annotations

import base64
import io
from collections import Counter, deque
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from stack.demo.result import headroom_path
from stack.demo.run import year_at
from stack.workflows.explain import to_text
from trading.arrays import FloatArray
from trading.decision.schema import Decision
from trading.decision.wire import place
from trading.events import ExecutionReport
from trading.features.definitions import FEATURES
from trading.models.signature import REGIMES, STRATEGIES
from trading.risk.verdict import RuleResult

mpl.use("Agg")
TEMPLATES = Path(__file__).parent / "templates"
MAX_POINTS = 3000
#: Of the time that a symbol's plots show.
SHOWN_PARTS = 250
BUDGET_MS = 50.0
REGIME_COLOURS = ("#2e9e5b", "#d1495b", "#8d99ae")
STRATEGY_COLOURS = ("#264653", "#2a9d8f", "#e9c46a", "#e76f51", "#8ac926", "#d1495b", "#8d99ae")
#: Of the headroom's plot: parts of the run, rules, and how far below zero is shown.
BINS, SHOWN_RULES, LOWEST = 120, 10, -0.5
RULE_COLOURS = (
    "#d1495b", "#264653", "#2a9d8f", "#e9c46a", "#e76f51", "#8d99ae", "#6a4c93", "#1982c4", "#8ac926", "#444444",
)  # fmt: skip


def write_report(path: Path, result: object, run: Any, shown: Decision, year: int | None = None) -> None:
    """Write one self-contained HTML file of a demo's run; a symbol is plotted over a year, or over all of them."""
    decisions: list[Decision] = run.decisions
    shown_ones = [d for d in decisions if year in (None, year_of(d))] or decisions
    symbol = Counter(d.symbol for d in shown_ones if d.quantity).most_common(1)
    name = symbol[0][0] if symbol else shown_ones[0].symbol
    mine = [d for d in shown_ones if d.symbol == name]
    pictures = {
        f"{name}: price, regimes, weights, position": encode(symbol_figure(name, mine)),
        "Profit of the paper book, spread, slippage and fees included": encode(equity_figure(decisions, run.fills)),
        "Headroom: how much of each limit was left": encode(headroom_figure(decisions)),
        "Latency: intended send to decision visible": encode(latency_figure(run)),
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    environment.globals.update(boundary=to_text, evidence=evidence, kept=kept)
    template = environment.get_template("report.html.j2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(r=result, pictures=pictures, shown=shown))


def kept(per_s: float | None) -> str:
    """What is said of the rate that a machine keeps, where it does not keep the one that was asked for."""
    if per_s is None:
        return "which rate it keeps could not be measured"
    return f"it keeps {per_s:,.0f}/s" if per_s else "nor an eighth of it"


def year_of(decision: Decision) -> int:
    """Of its tick, UTC."""
    return year_at(decision.event_time_ns)


def evidence(d: Decision) -> list[tuple[str, str]]:
    """A decision as name and text, in the order in which it was made."""
    values = [
        ("decision", d.decision_id),
        ("tick", f"{d.symbol} at {to_text(d.event_time_ns)}, mid {d.mid_price}"),
        ("features", ", ".join(f"{n} {v:.4g}" for n, v in zip(FEATURES, d.features, strict=True) if v)),
        ("regime", named(REGIMES, d.regime_probabilities)),
        ("signals", named(STRATEGIES, d.strategy_signals)),
        ("weights", named(STRATEGIES, d.strategy_weights)),
        (
            "target",
            "none" if d.target_position is None else f"{d.target_position:+.4f} of the position limit",
        ),
        ("model", f"{d.model_name} version {d.model_version}, variant {d.variant}"),
        ("action", f"{d.action.value} {abs(d.quantity):g} at {d.reference_price} ({d.reason.value})"),
        ("position", f"{d.position_before:g} to {d.position_after:g}"),
    ]
    if d.verdict is not None:
        values.append(("verdict", f"{d.verdict.outcome.value}, trading state {d.trading_state.value}"))
        values.extend((f"  {r.rule}", describe_rule(r)) for r in d.verdict.results)
    s = d.stages
    values.append(
        (
            "stages",
            ", ".join(
                f"{name} {us / 1e3:.2f} ms"
                for name, us in (
                    ("queue", s.queue_us),
                    ("features", s.features_us),
                    ("inference", s.inference_us),
                    ("decide", s.decide_us),
                )
            ),
        )
    )
    return values


def describe_rule(r: RuleResult) -> str:
    """A rule's result in words."""
    verdict = "passed" if r.passed else "broken"
    if r.value is None or r.limit is None or r.headroom is None:
        return verdict
    return f"{verdict}: {r.value:,.6g} of {r.limit:,.6g}, headroom {r.headroom:,.6g}"


def named(names: tuple[str, ...], values: list[float]) -> str:
    """Names with their values."""
    return ", ".join(f"{n} {v:+.3f}" for n, v in zip(names, values, strict=False)) or "none"


def encode(figure: Figure) -> str:
    """A PNG as text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return base64.b64encode(buffer.getvalue()).decode()


def symbol_figure(name: str, decisions: list[Decision]) -> Figure:
    """Price, regime probabilities, strategy weights and position of one symbol, each over parts of the time."""
    times = np.array([d.event_time_ns for d in decisions])
    edges = np.unique(np.searchsorted(times, np.linspace(times[0], times[-1], SHOWN_PARTS + 1)[:-1]))
    parts = [decisions[a:b] for a, b in zip(edges, [*edges[1:], len(decisions)], strict=True)]
    x = np.array([part[0].event_time_ns for part in parts], "datetime64[ns]")
    figure = Figure(figsize=(11, 10), layout="constrained")
    price, regimes, weights, position = figure.subplots(4, 1, sharex=True)
    prices = np.array([part[-1].mid_price or np.nan for part in parts])
    price.plot(x, prices, color="black", linewidth=0.9)
    traded = np.array([sum(d.quantity for d in part) for part in parts])
    for action, marker, colour, there in (
        ("bought, net", "^", "#2e9e5b", traded > 0.0),
        ("sold, net", "v", "#d1495b", traded < 0.0),
    ):
        price.scatter(x[there], prices[there], marker=marker, s=14, color=colour, label=action, zorder=3)
    price.set_title(name)
    price.set_ylabel("price")
    price.legend(loc="upper left")
    stack(
        regimes,
        x,
        [mean([d.regime_probabilities for d in part]) for part in parts],
        REGIMES,
        REGIME_COLOURS,
        "regime",
    )
    stack(
        weights,
        x,
        [mean([d.strategy_weights for d in part]) for part in parts],
        STRATEGIES,
        STRATEGY_COLOURS,
        "weight",
    )
    position.step(x, [part[-1].position_after for part in parts], where="post", color="#264653")
    position.axhline(0, color="black", linewidth=0.6)
    position.set_ylabel("position")
    return figure


def mean(rows: list[list[float]]) -> list[float]:
    """Of the rows that there are; nothing where there is none."""
    known = [row for row in rows if row]
    return np.mean(known, axis=0).tolist() if known else []


def stack(axes: Any, x: Any, rows: list[list[float]], names: tuple[str, ...], colours: Any, label: str) -> None:
    """A stacked area; where no tick had a prediction there is a gap."""
    values = np.array([row or [np.nan] * len(names) for row in rows])
    axes.stackplot(x, np.nan_to_num(values).T, labels=names, colors=colours, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel(label)
    axes.legend(loc="upper left", ncols=len(names), fontsize=8)


def equity_path(decisions: list[Decision], fills: dict[int, list[tuple[int, ExecutionReport]]]) -> FloatArray:
    """Profit after each decision, in the quote currency: positions at the mid, fills at their prices and fees.

    A decision says how many of its partition's reports its book had taken.
    """
    marks: dict[tuple[str, int], float] = {}
    waiting = {partition: deque(mine) for partition, mine in fills.items()}
    total, path = 0.0, []
    for d in decisions:
        partition = place(d.decision_id)[0]
        mine = waiting.get(partition, deque())
        while mine and mine[0][0] < d.fills_to:
            _, report = mine.popleft()
            total += report.quantity * (marks[report.symbol, partition] - report.price) - report.fee
        key = (d.symbol, partition)
        if d.mid_price is not None:
            total += d.position_before * (d.mid_price - marks.get(key, d.mid_price))
            marks[key] = d.mid_price
        path.append(total)
    return np.array(path)


def equity_figure(decisions: list[Decision], fills: dict[int, list[tuple[int, ExecutionReport]]]) -> Figure:
    """The book's profit over the run."""
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    axes = figure.subplots()
    path = equity_path(decisions, fills)
    step = max(1, len(path) // MAX_POINTS)
    axes.plot(np.arange(len(path))[::step], path[::step], color="#264653")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("decision")
    axes.set_ylabel("profit, quote currency")
    return figure


def headroom_figure(decisions: list[Decision]) -> Figure:
    """The rules that came nearest to their limits, over the run."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots()
    paths = headroom_path(decisions, BINS)
    nearest = sorted(paths, key=lambda rule: float(np.nanmedian(paths[rule])))[:SHOWN_RULES]
    x = (np.arange(BINS) + 0.5) * len(decisions) / BINS
    for rule, colour in zip(nearest, RULE_COLOURS, strict=False):
        axes.plot(x, np.clip(paths[rule], LOWEST, 1.0), label=rule.replace("_", " "), color=colour, linewidth=1.3)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(LOWEST * 1.05, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("decision")
    axes.set_ylabel(f"left of the limit, at least (cut at {LOWEST:.0%})")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def latency_figure(run: Any) -> Figure:
    """How many decisions took how long after the warm-up, and each second's percentiles over the whole run."""
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    counted, over_time = figure.subplots(2, 1)
    histogram = run.histogram
    values = [
        (i.value_iterated_to / 1000.0, i.count_added_in_this_iter_step) for i in histogram.get_recorded_iterator()
    ]
    if values:
        edges = np.logspace(np.log10(max(0.05, values[0][0] * 0.9)), np.log10(values[-1][0] * 1.1), 80)
        counted.hist([v for v, _ in values], bins=edges.tolist(), weights=[c for _, c in values], color="#2a9d8f")
    for percentile in (50.0, 99.0, 99.9) if values else ():
        at = histogram.get_value_at_percentile(percentile) / 1000.0
        counted.axvline(at, color="#d1495b", linewidth=1)
        counted.text(
            at, 0.97, f" p{percentile:g} {at:.1f} ms", rotation=90, fontsize=8, va="top",
            transform=counted.get_xaxis_transform(),
        )  # fmt: skip
    counted.set_xscale("log")
    counted.set_yscale("log")
    counted.set_xlabel("ms")
    counted.set_ylabel("decisions")
    for label, colour, ms in by_second(run.seconds, run.latencies_ms):
        over_time.plot(np.arange(len(ms)) + 0.5, ms, label=label, color=colour, linewidth=1.2)
    over_time.axhline(BUDGET_MS, color="black", linewidth=0.8, linestyle="--", label=f"budget {BUDGET_MS:g} ms")
    over_time.axvspan(0.0, run.warm_up_s, color="#8d99ae", alpha=0.25, label="warm-up, not counted")
    over_time.set_yscale("log")
    for axis in (over_time.yaxis, counted.xaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(FuncFormatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else ""))
    over_time.set_xlabel("second of the run")
    over_time.set_ylabel("ms")
    over_time.legend(loc="upper right", fontsize=8, ncols=5)
    return figure


def by_second(seconds: FloatArray, ms: FloatArray) -> list[tuple[str, str, FloatArray]]:
    """Label, colour and value a second, of median, 99th percentile and worst; NaN where nothing was sent.

    `seconds` never decrease.
    """
    edges = np.searchsorted(seconds, np.arange(int(seconds[-1]) + 2))
    cells = [ms[a:b] for a, b in pairwise(edges.tolist())]
    return [
        (label, colour, np.array([of(cell) if len(cell) else np.nan for cell in cells]))
        for label, colour, of in (
            ("p50", "#2a9d8f", lambda cell: np.percentile(cell, 50.0)),
            ("p99", "#e76f51", lambda cell: np.percentile(cell, 99.0)),
            ("worst", "#d1495b", np.max),
        )
    ]
