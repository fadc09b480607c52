"""docs/models.md: every recorded market trained on and judged out of sample, by one command."""

from __future__ import annotations

import math
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from msgspec import Struct

from stack.workflows.training import online_report
from stack.workflows.training.settings import TrainRequest
from trading.errors import ConfigurationError
from trading.files import write_atomically
from trading.models.signature import REGIMES, STRATEGIES

if TYPE_CHECKING:
    from trainers.data.dataset import Dataset
    from trainers.online.evidence import Evidence
    from trainers.walk_forward import Trained


class Market(Struct, frozen=True):
    """A recorded market, and how it is traded: `file` is None for a source that needs none."""

    title: str
    slug: str
    source: str
    file: str | None
    bars: str
    horizon: str
    fee_bps: float
    slippage_bps: float
    half_spread_bps: float = 1.0


#: Fees are those of a small account that takes liquidity.
MARKETS = (
    Market("20 US stocks, daily closes", "sp500", "skfolio:sp500", None, "ticks", "10d", 0.5, 0.5),
    Market("BTCUSDT perpetual, quotes and trades", "btcusdt", "binance:{}", "binance_usdm_btcusdt_20240808.gz",
           "ticks", "10s", 5.0, 0.5),
    Market("ETHUSDT perpetual, quotes and trades", "ethusdt", "binance:{}", "binance_usdm_ethusdt_20240808.gz",
           "ticks", "10s", 5.0, 0.5),
    Market("EUR/USD, quotes", "eurusd", "lean:{}", "oanda_eurusd_20140508_quote.zip", "ticks", "1m", 0.0, 0.1),
    Market("BTC perpetual, one-minute bars", "btc1m", "csv:{}?symbol=BTC", "btc_perp_20211231_20220201_1m.csv.gz",
           "ticks", "1h", 5.0, 0.5, 0.5),
)  # fmt: skip


class Done(Struct, frozen=True):
    """A market that was trained on, how long it took in seconds, and what its nights were worth."""

    market: Market
    data: Dataset
    trained: Trained
    built_s: float
    trained_s: float
    nights: Evidence


def report(folder: Path, out: Path, progress: Callable[[str, int, int], None]) -> list[str]:
    """Train on each market and write OUT/models.md with its pictures in OUT/models/.

    Args:
        folder: where the recorded files are.
        out: of the page.
        progress: called with a stage and how much of what total it has done.

    Returns:
        The verdicts.

    Raises:
        ConfigurationError: not one of the markets is there.
    """
    found, absent = [], []
    for market in MARKETS:
        if market.file is not None and not (folder / market.file).is_file():
            absent.append(market.title)
        else:
            found.append(run(market, folder, progress))
    if not found:
        raise ConfigurationError(f"{folder} holds none of the recorded markets")
    pictures = out / "models"
    pictures.mkdir(parents=True, exist_ok=True)
    for done in found:
        draw(done, pictures)
    write_atomically(out / "models.md", page(found, absent))
    return [done.trained.evaluation.verdict for done in found]


def run(market: Market, folder: Path, progress: Callable[[str, int, int], None]) -> Done:
    """Build and train."""
    from trading.history import open_source
    from trainers.data.build import build
    from trainers.data.dataset import open_dataset
    from trainers.training.loop import TrainingStep
    from trainers.walk_forward import train_all

    request = TrainRequest(
        (market.source,), market.bars, market.horizon, fee_bps=market.fee_bps, slippage_bps=market.slippage_bps,
        half_spread_bps=market.half_spread_bps,
    )  # fmt: skip
    path = "" if market.file is None else str(folder / market.file)
    source = open_source(market.source.format(path))
    # The page names files, not where they lay.
    source.spec = market.source.format(market.file or "").split("?")[0]
    with tempfile.TemporaryDirectory() as scratch:
        began = time.monotonic()
        build([source], request.build_settings(), Path(scratch) / "data",
              lambda stage, n: progress(f"{market.slug}: {stage}", n, 0))  # fmt: skip
        data = open_dataset(Path(scratch) / "data")
        built = time.monotonic()

        def show(step: TrainingStep) -> None:
            progress(f"{market.slug}: {step.stage}", step.done, step.total)

        trained = train_all(data, request.settings(), show)
        trained_s = time.monotonic() - built
        nights = online_report.examined(market, data, progress)
    return Done(market, data, trained, built - began, trained_s, nights)


def draw(done: Done, folder: Path) -> None:
    """The pictures of a market."""
    regime, signals, meta = (model.pictures for model in done.trained.models)
    for name, figure in (
        ("equity", meta["equity"]), ("regimes", regime["regimes"]), ("calibration", regime["calibration"]),
        ("ic", signals["information_coefficient"]),
    ):  # fmt: skip
        figure.savefig(folder / f"{done.market.slug}_{name}.png", dpi=70)
    online_report.picture(done.market, done.nights).savefig(folder / f"{done.market.slug}_online.png", dpi=70)


def page(found: list[Done], absent: list[str]) -> str:
    """Markdown."""
    from trainers.code_version import git_commit

    cpus, memory = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    lines = [
        "# Models, out of sample", "",
        "Written by `make models-report`. Every figure is out of sample: walk-forward, purged, with an embargo of one",
        "horizon; every way to trade went through the gateway's own order and risk code; spread as quoted, fee and",
        "slippage counted. *Net* and *before costs* are sums of returns on a fixed capital; *t* is the t-statistic of the",
        "mean net return a period. An edge is claimed only where the 95 % block-bootstrap interval of that mean lies above",
        "zero and the deflated Sharpe ratio is at least 0.95.", "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {git_commit()[:12]}, {cpus} CPUs, {memory:.0f} GiB, Python "
        f"{platform.python_version()}, no GPU." if not has_gpu() else f"{datetime.now(UTC):%Y-%m-%d}, on a GPU.", "",
        "## Verdicts", "", *(f"- {sentence(done.trained.evaluation.verdict)}" for done in found),
        *(f"- {title}: not trained, its file is absent." for title in absent), "",
        "| source | rows | net | before costs | t | 95 % interval, bp a period | deflated Sharpe | overfitting | "
        "buy and hold, t | equal weights, t | hysteresis, t | best single, t |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
        *(summary(done) for done in found), "",
    ]  # fmt: skip
    lines += ["## Regimes", "",
              "Student against teacher on test rows of the last fold. *Disruption*: what a change of the likeliest regime",
              "does to the target, all else being equal (goal: below 5 % of the position limit).", "",
              "| source | teacher | likelihood | agreement | calibration error | stability | disruption, mean | 95 % | "
              + " | ".join(f"stay in {name}, rows" for name in REGIMES) + " |",
              "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
              *(regime_row(done) for done in found), ""]  # fmt: skip
    lines += online_report.section([(done.market, done.nights) for done in found])
    lines += ["## Time", "", "| source | ticks | build, s | ticks/s | train and evaluate, s |",
              "| --- | --: | --: | --: | --: |", *(time_row(done) for done in found), ""]  # fmt: skip
    for done in found:
        lines += section(done)
    return "\n".join(lines)


def has_gpu() -> bool:
    """Whether torch sees one."""
    import torch

    return bool(torch.cuda.is_available())


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def summary(done: Done) -> str:
    """The main table's row."""
    e = done.trained.evaluation
    mine = e.figures["meta_controller"]
    others = " | ".join(f"{e.figures[n].t_statistic:+.2f}" for n in
                        ("buy_and_hold", "equal_weights", "hysteresis", "best_single"))  # fmt: skip
    overfit = "–" if math.isnan(e.overfitting) else f"{e.overfitting:.0%}"
    return (
        f"| {done.market.title} | {len(done.data):,} | {mine.total:+.2%} | {mine.gross:+.2%} | {mine.t_statistic:+.2f} | "
        f"{e.interval.low * 1e4:+.3g} to {e.interval.high * 1e4:+.3g} | {e.deflated_sharpe:.2f} | {overfit} | {others} |"
    )


def regime_row(done: Done) -> str:
    """The regime table's row."""
    r, teacher = done.trained.reports[-1], done.trained.folds[-1].teacher
    stays = " | ".join(f"{rows:,.0f}" for rows in r.expected_dwell)
    return (
        f"| {done.market.title} | {teacher.kind} | {r.log_likelihood:.2f} | {r.agreement:.1%} | {r.curve.error:.3f} | "
        f"{r.stability:.1%} | {r.disruption_mean:.1%} | {r.disruption_p95:.1%} | {stays} |"
    )


def time_row(done: Done) -> str:
    """How long it took."""
    ticks = done.data.manifest.ticks
    return f"| {done.market.title} | {ticks:,} | {done.built_s:.1f} | {ticks / done.built_s:,.0f} | {done.trained_s:.1f} |"


def section(done: Done) -> list[str]:
    """A market's own part."""
    m, manifest, e = done.market, done.data.manifest, done.trained.evaluation
    period = e.figures["meta_controller"].period
    lines = [
        f"## {m.title}", "", sentence(e.verdict), "",
        f"{manifest.ticks:,} ticks, {manifest.rows:,} rows ({manifest.bars}), labels over {m.horizon}; fee {m.fee_bps:g} bp, "
        f"slippage {m.slippage_bps:g} bp, spread as quoted (where there is none, {m.half_spread_bps:g} bp a side). Periods "
        f"of {period}.", "",
        "| way to trade | net | before costs | mean, bp | t | Sharpe, a year | Sortino, a year | drawdown | turnover | hits |"
        " capacity, a trade | denied |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]  # fmt: skip
    for name, f in e.figures.items():
        title = f"**{name.replace('_', ' ')}**" if name not in STRATEGIES else name.replace("_", " ")
        lines.append(
            f"| {title} | {f.total:+.2%} | {f.gross:+.2%} | {f.mean_bps:+.3g} | {f.t_statistic:+.2f} | {known(f.sharpe)} | "
            f"{known(f.sortino)} | {f.max_drawdown:.2%} | {f.turnover:.3g} | {known(f.hit_rate, '.0%')} | "
            f"{known(f.capacity, ',.0f')} | {f.denied:,} of {f.wanted:,} |"
        )
    lines += ["", *(f"![{what}](models/{m.slug}_{name}.png)" for name, what in
                    (("equity", "net returns of the main ways to trade"), ("regimes", "price by likeliest regime"),
                     ("calibration", "calibration of the student"), ("ic", "information coefficients by fold"))), ""]  # fmt: skip
    return lines


def known(value: float, form: str = "+.2f") -> str:
    """A number; a dash for what is unknown."""
    return "–" if math.isnan(value) else format(value, form)
