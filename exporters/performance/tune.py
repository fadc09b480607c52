"""Dynamic batching or not, one instance or two: measured on this server, on copies nobody else asks."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from exporters.errors import ExportError
from exporters.performance.latency import Measured, measure
from exporters.release.candidate import candidate
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository, newest

#: instances, queue delay of the dynamic batcher in microseconds (None: no batcher).
SETTINGS: tuple[tuple[int, int | None], ...] = ((1, None), (1, 0), (1, 200), (2, None), (2, 0))
#: clients, rows a call: the gateway's own way (two batches in flight), and many small callers.
LOADS = ((2, 64), (1, 1), (8, 1))
#: A setting must be better than the simplest by this much to be worth having.
WORTH = 0.10


class Setting(Struct, frozen=True):
    """One combination and what it gave under each load."""

    instances: int
    queue_delay_us: int | None
    measured: list[Measured]

    @property
    def label(self) -> str:
        """In words."""
        batcher = "no batcher" if self.queue_delay_us is None else f"batcher, {self.queue_delay_us} us"
        return f"{self.instances} instance{'s' if self.instances > 1 else ''}, {batcher}"


class Tuned(Struct, frozen=True):
    """What was tried, and what is recommended for the gateway's load."""

    model: str
    version: int
    settings: list[Setting]
    recommended: Setting


def tune(
    name: str,
    version: int | None,
    repository: ModelRepository,
    triton: TritonServer,
    seconds: float,
    progress: Callable[[str], None],
) -> Tuned:
    """Try each setting for `seconds` a load.

    Raises:
        ExportError: an ensemble has no settings of its own; or the version is unknown.
    """
    number = version if version is not None else newest(repository, name)
    lineage = repository.verified_lineage(name, number)
    if lineage.contract.backend == "ensemble":
        raise ExportError(f"{name} is an ensemble: tune its steps, {', '.join(lineage.contract.steps)}")
    found = []
    with repository.lock(name):
        for instances, delay in SETTINGS:
            serving = replace(repository.serving(name), instances=instances, queue_delay_us=delay)
            with candidate(repository, triton, lineage.contract, number, serving) as (copy, _):
                measured = []
                for clients, batch in LOADS:
                    rows = min(batch, copy.max_batch_size)
                    progress(f"{name}: {instances} instances, delay {delay}, {clients} clients of {rows} rows")
                    measured.append(
                        measure(triton.address, copy, number, clients=clients, batch=rows, seconds=seconds)
                    )
            found.append(Setting(instances, delay, measured))
    return Tuned(name, number, found, recommend(found))


def recommend(settings: list[Setting]) -> Setting:
    """The lowest p99 under the gateway's load, if it beats the simplest by a tenth; else the simplest."""
    simplest = settings[0]
    best = min(settings, key=lambda s: s.measured[0].p99_ms)
    return best if best.measured[0].p99_ms < simplest.measured[0].p99_ms * (1 - WORTH) else simplest
