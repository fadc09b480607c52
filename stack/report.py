"""The demo's HTML report: what was decided, drawn."""

from __future__ import annotations

import base64
import io
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from matplotlib.figure import Figure

from gateway.domain.features import FEATURES
from gateway.domain.schemas import Decision, FloatArray, RuleResult
from gateway.domain.signature import REGIMES, STRATEGIES

mpl.use("Agg")
TEMPLATES = Path(__file__).parent / "templates"
MAX_POINTS = 3000
REGIME_COLOURS = ("#2e9e5b", "#d1495b", "#8d99ae")
STRATEGY_COLOURS = ("#264653", "#2a9d8f", "#e9c46a", "#e76f51")


def write_report(path: Path, result: object, decisions: list[Decision], histogram: Any, shown: Decision) -> None:
    """Write one self-contained HTML file."""
    symbol = Counter(d.symbol for d in decisions if d.quantity).most_common(1)
    name = symbol[0][0] if symbol else decisions[0].symbol
    mine = [d for d in decisions if d.symbol == name]
    pictures = {
        f"{name}: price, regimes, weights, position": encode(symbol_figure(name, mine)),
        "Equity of the paper book, costs of the spread included": encode(equity_figure(decisions)),
        "Latency: intended send to decision visible": encode(latency_figure(histogram)),
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    environment.globals.update(boundary=to_text, evidence=evidence)
    template = environment.get_template("report.html.j2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(r=result, pictures=pictures, shown=shown))


def to_text(time_ns: int) -> str:
    """UTC, to the second."""
    return f"{np.datetime64(time_ns, 'ns').astype('datetime64[s]')} UTC"


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


def equity_path(decisions: list[Decision]) -> FloatArray:
    """Profit after each decision, in the quote currency: positions marked at the mid, trades paid at
    their reference price.
    """
    marks: dict[tuple[str, str], float] = {}
    total, path = 0.0, []
    for d in decisions:
        key = (d.symbol, d.decision_id.rsplit("-", 2)[1])
        if d.mid_price is not None:
            total += d.position_before * (d.mid_price - marks.get(key, d.mid_price))
            marks[key] = d.mid_price
            if d.quantity and d.reference_price is not None:
                total -= d.quantity * (d.reference_price - d.mid_price)
        path.append(total)
    return np.array(path)


def equity_figure(decisions: list[Decision]) -> Figure:
    """The book's profit over the run."""
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    axes = figure.subplots()
    path = equity_path(decisions)
    step = max(1, len(path) // MAX_POINTS)
    axes.plot(np.arange(len(path))[::step], path[::step], color="#264653")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("decision")
    axes.set_ylabel("profit, quote currency")
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
