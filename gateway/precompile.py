"""Compile what decides, once, at installation: `python -m gateway.precompile`.

A first start would else compile for half a minute. Where the result is kept: `trading.compiled`.
"""

from __future__ import annotations

import re
import shutil
import sys
import time

import numpy as np

from gateway.adapters.clock import SystemClock
from gateway.warm_up import warm_up
from trading.arrays import Float32Array
from trading.compiled import cache_folder
from trading.decision.policy import DecisionPolicy
from trading.events import PartitionEvents
from trading.history import open_source
from trading.models.prediction import Prediction
from trading.models.signature import REGIMES, STRATEGIES
from trading.portfolio.book import Book
from trading.risk.limits import LimitSet
from trading.risk.self_test import prove_all
from trading.state.partition import PartitionState

PROBE = "simulate:regimes?seed=11&ticks=80&symbols=3"


class Nobody:
    """A predictor that always says hold: only the types of its answer matter."""

    model_name = "nobody"

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:  # noqa: ARG002
        """Flat, for every row."""
        n = len(features)
        narrow = [np.zeros((n, k), np.float32) for k in (len(REGIMES), len(STRATEGIES), len(STRATEGIES))]
        for array in narrow:
            # As those of a message are: another type is compiled apart.
            array.flags.writeable = False
        regimes, signals, weights = narrow
        return Prediction(regimes, signals, weights, np.zeros(n), np.ones(n, np.bool_), ("",))

    def close(self) -> None:
        """Nothing is open."""


def forget_others() -> None:
    """Delete what was compiled of other sources; a process that still runs them has it in memory."""
    mine = cache_folder()
    for folder in mine.parent.glob("*"):
        if folder != mine and folder.is_dir() and re.fullmatch(r"[0-9a-f]{16}", folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Use everything once, and keep it in place of what was kept before."""
    began = time.monotonic()
    limits = LimitSet()
    prove_all(limits, Book)
    ticks = [record.tick for record in open_source(PROBE).records()]
    warm_up(ticks, Nobody(), DecisionPolicy(limits), SystemClock())
    state = PartitionState(limits)
    state.replay(ticks, [1] * len(ticks), range(len(ticks)), {}, assumed=True)
    state.take(PartitionEvents([], 0, [], 0))
    state.book.apply([])
    state.book.set_limits(limits)
    forget_others()
    sys.stdout.write(f"compiled in {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
