"""Training and exporting as the command line and the demo call them."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from stack.settings import load

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


class Served(Struct, frozen=True):
    """A model that was exported and is served. Parity is the largest absolute difference from its source."""

    name: str
    version: int
    run_id: str
    format: str
    parity_offline: float
    parity_max_abs_diff: float


def export(progress: Callable[[str], None], alias: str = "challenger") -> list[Served]:
    """Export the pipeline to the stack's Triton and release it: what the demo and the tests need."""
    from exporters import profiles
    from exporters.export import Options, export_pipeline
    from exporters.releases import Releases
    from exporters.repository import ModelRepository
    from exporters.serving import TritonServer
    from gateway.domain.signature import TRADING_DECISION

    settings = load()
    gpu = profiles.find_gpu(profiles.DEFAULT_GPU)
    container = profiles.find(profiles.DEFAULT_CONTAINER)
    repository, triton = ModelRepository(settings.model_repository), TritonServer(settings.triton_grpc)
    try:
        options = Options(settings.mlflow_uri, container, gpu, alias)
        published = export_pipeline(TRADING_DECISION.name, options, repository, progress)
        releases = Releases(repository, triton, gpu, progress)
        whole = next(p for p in published if p.name == TRADING_DECISION.name)
        released = releases.release(whole.name, whole.version)
        served = {whole.name: released.parity_max_abs_diff}
        for step in published[:-1]:
            served[step.name] = releases.probe(step.name, step.version).max_abs
    finally:
        triton.close()
    return [Served(p.name, p.version, p.run_id, p.format, p.parity_max_abs_diff, served[p.name]) for p in published]
