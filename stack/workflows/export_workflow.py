"""Exporting as the command line and the demo call it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from stack.servers.settings import load


class ServedVersion(Struct, frozen=True):
    """A model that was exported and is served. Parity is the largest absolute difference from its source."""

    name: str
    version: int
    run_id: str
    format: str
    parity_offline: float
    parity_max_abs_diff: float


def export(
    progress: Callable[[str], None], alias: str = "challenger", *, fuse: bool = False
) -> list[ServedVersion]:
    """Export the pipeline to the stack's Triton and release it, with `fuse` as one graph too."""
    from exporters import profiles
    from exporters.export import export_pipeline
    from exporters.options import Options
    from exporters.release.releases import Releases
    from exporters.release.triton_client import TritonServer
    from exporters.repository.repository import ModelRepository
    from trading.models.signature import TRADING_DECISION

    settings = load()
    gpu = profiles.find_gpu(profiles.DEFAULT_GPU)
    container = profiles.find(profiles.DEFAULT_CONTAINER)
    repository, triton = ModelRepository(settings.model_repository), TritonServer(settings.triton_grpc)
    try:
        options = Options(settings.mlflow_uri, container, gpu, alias)
        published = export_pipeline(TRADING_DECISION.name, options, repository, progress, fuse=fuse)
        releases = Releases(repository, triton, gpu, progress)
        served = {
            p.name: releases.release(p.name, p.version).parity_max_abs_diff
            for p in published
            if p.name.startswith(TRADING_DECISION.name)
        }
        for step in published:
            if step.name not in served:
                served[step.name] = releases.probe(step.name, step.version).max_abs
    finally:
        triton.close()
    return [
        ServedVersion(p.name, p.version, p.run_id, p.format, p.parity_max_abs_diff, served[p.name])
        for p in published
    ]
