"""Results as runs would have them, from latencies that the tests choose."""

from __future__ import annotations

import numpy as np

from loadtest.measuring.latency_tally import Tally

MS, S = 1_000_000, 1_000_000_000


def result_of(latencies_ms, rate=100.0, lag_ms=0.1, lost=0, **given):
    """A run whose n-th arrival took `latencies_ms[n]`; the last `lost` were never answered."""
    latencies = np.asarray(latencies_ms, np.float64)
    meant = (np.arange(len(latencies)) / rate * S).astype(np.int64)
    tally = Tally(0, int(meant[-1]))
    answered = slice(None, len(meant) - lost)
    sent = meant + int(lag_ms * MS)
    tally.add(meant[answered], sent[answered], (meant + latencies * MS).astype(np.int64)[answered])
    tally.plan(meant, sent)
    told = {
        "target": "decision", "settings": {"source": "a|b", "speed": "100/s"}, "started_at": "2026-11-25T12:00:00+00:00",
        "warm_up_s": 0.0, "sent": len(meant), "missing": lost, **given,
    }  # fmt: skip
    return tally.result(**told)
