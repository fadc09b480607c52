"""Whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from gateway.domain.schemas import FloatArray

BINS = 10


class Curve(Struct, frozen=True):
    """For bins of predicted probability: float64 [BINS] mean predicted, mean true, and shares of all predictions.

    Attributes:
        predicted, observed, share: NaN where a bin is empty.
        error: expected calibration error, the mean gap weighted by share.
    """

    predicted: FloatArray
    observed: FloatArray
    share: FloatArray
    error: float


def curve(probabilities: FloatArray, truth: FloatArray) -> Curve:
    """Reliability of probabilities [n, k] against true ones, [n, k], all classes together (Guo et al. 2017)."""
    p, t = probabilities.ravel(), truth.ravel()
    which = np.clip((p * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(which, minlength=BINS).astype(np.float64)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(which, p, BINS) / count
        observed = np.bincount(which, t, BINS) / count
    share = count / len(p)
    return Curve(predicted, observed, share, float(np.nansum(share * np.abs(predicted - observed))))


def temperature(logits: Tensor, truth: Tensor) -> float:
    """The temperature that divides logits [n, k] to the least cross-entropy against [n, k] (Guo et al. 2017)."""
    log_temperature = torch.zeros(1, requires_grad=True, device=logits.device)
    optimiser = torch.optim.LBFGS([log_temperature], lr=0.2, max_iter=50)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / log_temperature.exp(), truth)
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(log_temperature.detach().exp().clamp(0.2, 5.0))
