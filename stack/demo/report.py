"""The demo's HTML report: what was decided, drawn."""

from __future__ import annotations

import base64
import io
from collections import Counter, deque
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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
REGIME_COLOURS = ("#2e9e5b", "#d1495b", "#8d99ae")
STRATEGY_COLOURS = ("#264653", "#2a9d8f", "#e9c46a", "#e76f51", "#8ac926", "#d1495b", "#8d99ae")
#: Of the headroom's plot: parts of the run, rules, and how far below zero is shown.
BINS, SHOWN_RULES, LOWEST = 120, 10, -0.5
RULE_COLOURS = (
    "#d1495b", "#264653", "#2a9d8f", "#e9c46a", "#e76f51", "#8d99ae", "#6a4c93", "#1982c4", "#8ac926", "#444444",
)  # fmt: skip


def write_report(path: Path, result: object, run: Any, shown: Decision) -> None:
    """Write one self-contained HTML file of a demo's run."""
    decisions: list[Decision] = run.decisions
    symbol = Counter(d.symbol for d in decisions if d.quantity).most_common(1)
    name = symbol[0][0] if symbol else decisions[0].symbol
    mine = [d for d in decisions if d.symbol == name]
    pictures = {
        f"{name}: price, regimes, weights, position": encode(symbol_figure(name, mine)),
        "Profit of the paper book, spread, slippage and fees included": encode(equity_figure(decisions, run.fills)),
        "Headroom: how much of each limit was left": encode(headroom_figure(decisions)),
        "Latency: intended send to decision visible": encode(latency_figure(run.histogram)),
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    environment.globals.update(boundary=to_text, evidence=evidence)
    template = environment.get_template("report.html.j2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(r=result, pictures=pictures, shown=shown))


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
    """Price, regime probabilities, strategy weights and position of one symbol."""
    step = max(1, len(decisions) // MAX_POINTS)
    some = decisions[::step]
    x = np.array([d.event_time_ns for d in some], "datetime64[ns]")
    figure = Figure(figsize=(11, 10), layout="constrained")
    price, regimes, weights, position = figure.subplots(4, 1, sharex=True)
    price.plot(x, [d.mid_price or np.nan for d in some], color="black", linewidth=0.9)
    for action, marker, colour in (("buy", "^", "#2e9e5b"), ("sell", "v", "#d1495b")):
        trades = [d for d in some if d.action.value == action]
        price.scatter(
            np.array([d.event_time_ns for d in trades], "datetime64[ns]"),
            [d.mid_price or np.nan for d in trades],
            marker=marker,
            s=14,
            color=colour,
            label=action,
            zorder=3,
        )
    price.set_title(name)
    price.set_ylabel("price")
    price.legend(loc="upper left")
    stack(regimes, x, [d.regime_probabilities for d in some], REGIMES, REGIME_COLOURS, "regime")
    stack(weights, x, [d.strategy_weights for d in some], STRATEGIES, STRATEGY_COLOURS, "weight")
    position.step(x, [d.position_after for d in some], where="post", color="#264653")
    position.axhline(0, color="black", linewidth=0.6)
    position.set_ylabel("position")
    return figure


def stack(axes: Any, x: Any, rows: list[list[float]], names: tuple[str, ...], colours: Any, label: str) -> None:
    """A stacked area; ticks without a prediction leave a gap."""
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


def headroom_path(decisions: list[Decision], bins: int) -> dict[str, FloatArray]:
    """Of each rule with a number, the smallest share of its limit that was left, in each of `bins` parts of a run.

    Below zero an order was denied, or made smaller, or an exit was let through beyond the limit. NaN: no order.
    """
    found: dict[str, FloatArray] = {}
    for k, d in enumerate(decisions):
        for r in d.verdict.results if d.verdict else ():
            if r.headroom is not None and r.limit:
                path = found.setdefault(r.rule, np.full(bins, np.nan))
                place = k * bins // len(decisions)
                path[place] = np.fmin(path[place], r.headroom / r.limit)
    return found


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
    axes.set_ylabel("left of the limit, at least")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def latency_figure(histogram: Any) -> Figure:
    """How many decisions took how long, both axes logarithmic, with the percentiles that matter."""
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    axes = figure.subplots()
    values = [
        (i.value_iterated_to / 1000.0, i.count_added_in_this_iter_step) for i in histogram.get_recorded_iterator()
    ]
    edges = np.logspace(np.log10(max(0.05, values[0][0] * 0.9)), np.log10(values[-1][0] * 1.1), 80)
    axes.hist([v for v, _ in values], bins=edges.tolist(), weights=[c for _, c in values], color="#2a9d8f")
    for percentile in (50.0, 99.0, 99.9):
        at = histogram.get_value_at_percentile(percentile) / 1000.0
        axes.axvline(at, color="#d1495b", linewidth=1)
        axes.text(at, axes.get_ylim()[1] * 0.6, f" p{percentile:g} {at:.1f} ms", rotation=90, fontsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("ms")
    axes.set_ylabel("decisions")
    return figure
