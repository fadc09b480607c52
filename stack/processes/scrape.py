"""A gateway's metrics and status at one moment, and what lies between two."""

from __future__ import annotations

import math
import time
from typing import Any

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


class Scrape(Struct, frozen=True):
    """A gateway's metrics and status at one moment."""

    at_s: float
    samples: dict[tuple[str, Labels], float]
    status: dict[str, Any]

    @classmethod
    def of(cls, metrics: str, status: dict[str, Any]) -> Scrape:
        """Parse what Prometheus would."""
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
        }
        return cls(time.monotonic(), samples, status)

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 where there is none."""
        return self.samples.get((name, tuple(sorted(labels.items()))), 0.0)


def quantile_ms(before: Scrape, now: Scrape, name: str, q: float, **labels: str) -> float:
    """Below which a share `q` of what was observed between two scrapes lies; NaN for none.

    Within a bucket it is taken to be spread evenly, as Prometheus' histogram_quantile does; above the last bound it
    is that bound.
    """
    wanted = set(labels.items())
    grown = sorted(
        (float(dict(found)["le"]), value - before.samples.get((sample, found), 0.0))
        for (sample, found), value in now.samples.items()
        if sample == f"{name}_bucket" and wanted <= set(found)
    )
    if not grown or grown[-1][1] <= 0:
        return math.nan
    rank, below, under = q * grown[-1][1], 0.0, 0.0
    for bound, count in grown:
        if count >= rank:
            if math.isinf(bound):
                return below * 1e3
            share = (rank - under) / (count - under) if count > under else 1.0
            return (below + share * (bound - below)) * 1e3
        below, under = bound, count
    return math.nan
