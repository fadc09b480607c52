"""Training and exporting as the command line and the demo call them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from stack.settings import load

if TYPE_CHECKING:
    from exporters.pipeline import Exported

HEADLINES = {
    "regime_detection": ("agreement", "cross_entropy"),
    "strategy_signals": ("ic_momentum", "ic_mean_reversion", "ic_breakout", "ic_volatility_carry"),
    "meta_controller": ("net_gain", "net_t_statistic", "net_gain_equal_weights", "net_gain_buy_and_hold"),
}


class TrainedReport(Struct, frozen=True):
    """A registered model and its main figures, out of sample."""

    name: str
    version: str
    run_id: str
    headline: dict[str, float]


class TrainReport(Struct, frozen=True):
    """What a training did; nothing at or after `out_of_sample_from_ns` was learned from."""

    source: str
    rows: int
    dropped: int
    data_hash: str
    out_of_sample_from_ns: int
    verdict: str
    models: list[TrainedReport]


def train(
    data: str, horizon: int, limit: int | None, mlflow_uri: str | None, progress: Callable[[str], None]
) -> TrainReport:
    """Train and register the three models of a SOURCE."""
    from gateway.history import open_source
    from trainers import tracking
    from trainers.dataset import build
    from trainers.orchestrator import TrainSettings, train_all

    source = open_source(data)
    # Before the work, not after it: a missing server must not cost a training.
    tracking.connect(mlflow_uri or load().mlflow_uri)
    rows = build(source, lambda n: progress(f"read {n:,} ticks of {data}"), limit)
    models, out_of_sample_ns = train_all(rows, TrainSettings(horizon=horizon), progress)
    described: dict[str, str | int] = {"source": data, "hash": rows.data_hash, "rows": len(rows)}
    registered = []
    for model in models:
        progress(f"log {model.signature.name} to MLflow")
        logged = tracking.log(model, described)
        headline = {k: model.metrics[k] for k in HEADLINES[logged.name]}
        registered.append(TrainedReport(logged.name, logged.version, logged.run_id, headline))
    return TrainReport(
        source=data,
        rows=len(rows),
        dropped=rows.dropped,
        data_hash=rows.data_hash,
        out_of_sample_from_ns=out_of_sample_ns,
        verdict=verdict(registered[-1].headline),
        models=registered,
    )


def verdict(headline: dict[str, float]) -> str:
    """One honest sentence on the meta-controller, net of costs and out of sample."""
    gain, t = headline["net_gain"], headline["net_t_statistic"]
    better = max(("equal_weights", "buy_and_hold"), key=lambda n: headline[f"net_gain_{n}"])
    if gain <= 0 or t < 2:
        return f"no edge survives costs on this source (net gain {gain:.3g} basis points a tick, t {t:.1f})"
    if headline[f"net_gain_{better}"] > gain:
        return f"the net gain is positive (t {t:.1f}), but {better.replace('_', ' ')} gains more"
    return f"net of costs the meta-controller beats equal weights and buy and hold (t {t:.1f})"


def export(
    mlflow_uri: str | None,
    triton_url: str | None,
    repository: Path | None,
    target: str,
    alias: str,
    progress: Callable[[str], None],
) -> list[Exported]:
    """Export, publish and load all models; the served answers are proven equal to the sources'."""
    from exporters import profiles
    from exporters.pipeline import export_all
    from exporters.repository import ModelRepository
    from exporters.serving import TritonServer

    settings = load()
    return export_all(
        mlflow_uri or settings.mlflow_uri,
        TritonServer(triton_url or settings.triton_grpc),
        ModelRepository(repository or settings.model_repository),
        profiles.find(target),
        progress,
        alias,
    )
