"""Compile what decides, once, at installation: `python -m gateway.precompile`.

A first start would else compile for half a minute. Where the result is kept: `trading.compiled`.
"""

from __future__ import annotations

import shutil
import sys
import time

import numpy as np

from gateway.adapters.clock import SystemClock
from gateway.warm_up import warm_up
from trading.arrays import Float32Array
from trading.compiled import MARKER, cache_folder, mark
from trading.decision.policy import DecisionPolicy
from trading.history import open_source
from trading.models.prediction import Prediction, to_prediction
from trading.models.signature import REGIMES, STRATEGIES
from trading.risk.limits import LimitSet

#: As long as an older release may still be started on this machine.
KEPT_S = 30 * 86_400
PROBE = "simulate:regimes?seed=11&ticks=80&symbols=3"


class Nobody:
    """A predictor that always says hold: only the types of its answer matter."""

    model_name = "nobody"

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:  # noqa: ARG002
        """Flat, for every row."""
        n = len(features)
        outputs = [np.zeros((n, k), np.float32) for k in (len(REGIMES), len(STRATEGIES), len(STRATEGIES), 1)]
        outputs[0][:, 0] = outputs[2][:, 0] = 1.0
        for array in outputs:
            # As those of a message are: another type is compiled apart.
            array.flags.writeable = False
        return to_prediction(outputs, "")

    def close(self) -> None:
        """Nothing is open."""


def forget_old() -> None:
    """Delete what we compiled of other sources and have not compiled anew for long; others may still start."""
    mine = cache_folder()
    mark(mine)
    for marker in mine.parent.glob(f"*/{MARKER}"):
        if marker.parent != mine and time.time() - marker.stat().st_mtime > KEPT_S:
            shutil.rmtree(marker.parent, ignore_errors=True)


def main() -> None:
    """Use everything once, and keep it."""
    began = time.monotonic()
    try:
        mark(cache_folder())
    except OSError as error:
        raise SystemExit(
            f"error: {cache_folder()} cannot be written ({error.strerror}): compiled code is kept there; "
            "name another folder with NUMBA_CACHE_DIR"
        ) from None
    limits = LimitSet()
    ticks = [record.tick for record in open_source(PROBE).records()]
    warm_up(ticks, Nobody(), DecisionPolicy(limits), SystemClock())
    forget_old()
    sys.stdout.write(f"compiled in {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
